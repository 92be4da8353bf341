"""Folders of images: their splits and classes, what becomes of pixels, what is wrong with files."""

import io
import shutil
import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lutra.errors import DataError
from lutra.supernets.data.loading import load_images, load_unlabelled
from lutra.supernets.data.pictures import read_centre, read_random_crop
from tests.supernets.folders import write_images

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, 20 training images each and 5 for tests."""
    for split, count in (("train", 20), ("test", 5)):
        write_images(tmp_path / "animals" / split, CLASSES, count)
    return tmp_path / "animals"


def refused(folder: Path, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        images = load_images(folder, split)  # type: ignore[arg-type]
        images.batch(np.arange(len(images)), 16)
    (line,) = str(caught.value).splitlines()
    return line


def test_splits_and_classes(folder: Path) -> None:
    train, held, tests = (load_images(folder, split) for split in ("train", "validation", "test"))
    assert (len(train), len(held), len(tests)) == (54, 6, 15)
    for images in (train, held, tests):
        assert images.classes == CLASSES
        assert images.channels == 3
    assert set(train.labels[:20]) == {0, 1, 2}, "the first ones are a sample of all"
    again = load_images(folder, "train")
    assert np.array_equal(again.labels, train.labels)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_validation_images_of_their_own(folder: Path, name: str) -> None:
    write_images(folder / name, CLASSES, 4)
    assert len(load_images(folder, "validation")) == 12
    assert len(load_images(folder, "train")) == 60


def test_class_folders_alone_are_split(tmp_path: Path) -> None:
    write_images(tmp_path, CLASSES, 20)
    splits = [load_images(tmp_path, split) for split in ("train", "validation", "test")]
    assert [len(images) for images in splits] == [49, 5, 6]
    files = [set(images._files) for images in splits]  # type: ignore[attr-defined]
    assert len(set.union(*files)) == 60


def test_hidden_files_and_other_files_are_no_images(folder: Path) -> None:
    (folder / "train" / "ant" / "notes.txt").write_text("ants")
    (folder / "train" / "ant" / "._0.jpg").write_bytes(b"a Mac's")
    (folder / "train" / ".cache").mkdir()
    assert len(load_images(folder, "train")) == 54


def test_pixels_and_labels_belong_together(folder: Path) -> None:
    images = load_images(folder, "test")
    for rng in (None, np.random.default_rng(0)):
        pixels = images.pixels(np.arange(15), 24, rng)
        assert pixels.shape == (15, 3, 24, 24)
        assert pixels.dtype == torch.float32
        assert 0.0 <= float(pixels.min()) < 0.3
        assert float(pixels.max()) <= 1.0
    columns = images.pixels(np.arange(15), 24, None).mean((1, 2)).argmax(1)
    order = [float(columns[torch.from_numpy(images.labels) == label].float().mean()) for label in
             range(3)]  # fmt: skip
    assert order == sorted(order)


def test_chance_is_the_generator_s_alone(folder: Path) -> None:
    images = load_images(folder, "train")
    first, again, other = (
        images.pixels(np.arange(30), 16, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mirrored_only_where_that_is_asked_for(folder: Path) -> None:
    indices, chance = np.arange(30), np.random.default_rng
    full, unmirrored, none = (
        load_images(folder, "train", kind).batch(indices, 16, chance(1))[0]
        for kind in ("full", "unmirrored", "none")
    )
    assert torch.equal(none, load_images(folder, "train").batch(indices, 16)[0])
    mirrored = [
        not torch.equal(a, b) and torch.equal(a.flip(2), b)
        for a, b in zip(full, unmirrored, strict=True)
    ]
    same = [torch.equal(a, b) for a, b in zip(full, unmirrored, strict=True)]
    assert all(a or b for a, b in zip(mirrored, same, strict=True))
    assert any(mirrored)


def test_the_middle_is_what_resizing_and_cropping_give(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (320, 400, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "noise.png")
    resized = image.resize((160, 128), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((24, 8, 136, 120))).astype(int)
    found = read_centre(str(tmp_path / "noise.png"), 112, 3).astype(int)
    assert np.abs(found - expected)[1:-1, 1:-1].max() <= 1


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (1200, 1))] * 3, 2))
    image.save(tmp_path / "ramp.jpg", quality=98)
    image.save(tmp_path / "ramp.png")
    small, whole = (
        read_centre(str(tmp_path / name), 64, 3).astype(int) for name in ("ramp.jpg", "ramp.png")
    )
    assert np.abs(small - whole).max() <= 3
    crops = [
        read_random_crop(
            str(tmp_path / name), 64, 3, np.random.default_rng(3), mirrors=True
        ).astype(int)
        for name in ("ramp.jpg", "ramp.png")
    ]
    assert np.abs(crops[0] - crops[1]).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture(mode: str, tmp_path: Path) -> None:
    """A picture that is bright on its left."""
    path = str(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    pixels = np.zeros((30, 30), np.uint8)
    pixels[:, :15] = 255
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    elif mode != "L":
        image = image.convert("RGB").convert(mode)
    image.save(path)
    for channels in (1, 3):
        found = read_centre(path, 8, channels)
        assert found.shape == ((8, 8) if channels == 1 else (8, 8, 3))
        assert found[:, 0].min() > 200
        assert found[:, -1].max() < 50


def test_grey_folders_have_one_channel(tmp_path: Path) -> None:
    write_images(tmp_path / "train", ("a", "b"), 12, grey=True)
    images = load_images(tmp_path, "train")
    assert images.channels == 1
    assert images.pixels(np.arange(4), 20, None).shape == (4, 1, 20, 20)


def test_images_without_labels(folder: Path, tmp_path: Path) -> None:
    assert len(load_unlabelled(folder, 3)) == 60
    flat = tmp_path / "flat"
    shutil.copytree(folder / "train" / "ant", flat)
    for channels in (1, 3):
        images = load_unlabelled(flat, channels)
        assert (len(images), images.channels) == (20, channels)
        assert images.batch(np.arange(3), 16)[0].shape == (3, channels, 16, 16)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing holds no images"):
        load_unlabelled(tmp_path / "nothing", 3)
    with pytest.raises(DataError, match="is not a folder"):
        load_unlabelled(tmp_path / "nowhere", 3)


def test_no_images(tmp_path: Path, folder: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty holds neither folders of images" in refused(tmp_path / "empty")
    shutil.rmtree(folder / "train" / "bee")
    (folder / "train" / "bee").mkdir()
    assert f"{folder}/train/bee holds no images" in refused(folder)


def test_a_split_that_is_not_there(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    assert "has no folder 'test' for the split test; it has train" in refused(folder, "test")
    (folder / "train").rename(folder / "val")
    assert len(load_images(folder, "validation")) == 60
    assert "has no folder 'train' for the split train; it has val" in refused(folder)


def test_one_class_only(tmp_path: Path, folder: Path) -> None:
    write_images(tmp_path / "one" / "train", ("ant",), 3)
    assert "holds one class only ('ant')" in refused(tmp_path / "one")
    write_images(tmp_path / "few", ("a", "b"), 1)
    assert "too few to split" in refused(tmp_path / "few", "train")


def test_splits_of_different_classes(folder: Path) -> None:
    (folder / "test" / "cat").rename(folder / "test" / "dog")
    line = refused(folder)
    assert f"{folder}/train has the class 'cat', which {folder}/test lacks" in line


def broken(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, "JPEG")
    match kind:
        case "text":
            return b"no image at all"
        case "empty":
            return b""
        case "cut":
            return file.getvalue()[:300]
    return bomb(30_000, 30_000)


def bomb(width: int, height: int) -> bytes:
    """The head of a PNG that says it is so large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("text", "is a broken image, or none"),
        ("empty", "is a broken image, or none"),
        ("cut", "is a broken image: "),
        ("bomb", "is too large an image: "),
    ],
)
def test_a_broken_image_is_named(kind: str, says: str, folder: Path) -> None:
    (folder / "train" / "bee" / "7.jpg").write_bytes(broken(kind))
    line = refused(folder) if kind in ("text", "cut") else refused_somewhere(folder)
    assert f"{folder}/train/bee/7.jpg {says}" in line


def refused_somewhere(folder: Path) -> str:
    """Where the broken one is held out for validation it is refused there."""
    with pytest.raises(DataError) as caught:
        for split in ("train", "validation"):
            images = load_images(folder, split)
            images.batch(np.arange(len(images)), 16, np.random.default_rng(0))
    return str(caught.value)


def test_an_image_that_pillow_only_warns_of(tmp_path: Path) -> None:
    """Between its two limits it would decode 100 million pixels and say so in a warning."""
    write_images(tmp_path, ("a", "b"), 8)
    for path in tmp_path.glob("*/*.jpg"):
        path.write_bytes(bomb(10_000, 10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "is too large an image" in refused(tmp_path)


@given(data=st.data())
@settings(max_examples=60)
def test_damaged_files_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    file = io.BytesIO()
    kind = data.draw(st.sampled_from(("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")))
    Image.fromarray(np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)).save(file, kind)
    content = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.png"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(DataError):
            assert read_centre(str(path), 8, 3).shape == (8, 8, 3)
