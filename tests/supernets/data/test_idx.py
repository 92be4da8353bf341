"""MNIST's files: splits, and files that are none."""

import gzip
import itertools
import operator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from lutra.errors import DataError
from lutra.supernets.data.base import Augmentation, Split
from lutra.supernets.data.loading import load_images
from tests.supernets.images import write_idx

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def test_splits_share_no_image(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "images", 200)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    train, validation, test = (load_images(folder, split) for split in splits)
    assert (len(train), len(validation), len(test)) == (180, 20, 100)
    pixels = [
        {bytes(image.numpy()) for image in part.pixels(np.arange(len(part)), 28, None)}
        for part in (train, validation)
    ]
    assert not pixels[0] & pixels[1]


def test_the_first_test_images_are_a_sample_of_all_classes(tmp_path: Path) -> None:
    """Files may be sorted by class, or by who drew them."""
    folder = write_idx(tmp_path / "images", 200)
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:8] + bytes(np.arange(100, dtype=np.uint8) // 10))
    assert len(set(load_images(folder, "test").labels[:40].tolist())) > 5


def test_pixels_are_those_of_the_file_and_compressed_files_are_read(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "images", 40)
    plain = load_images(folder, "train")
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_images(folder, "train")
    indices = np.arange(len(plain))
    assert torch.equal(plain.pixels(indices, 28, None), packed.pixels(indices, 28, None))
    assert packed.batch(indices, 20)[0].shape == (36, 1, 20, 20)
    assert float(packed.batch(indices, 28)[0].abs().max()) <= 1.0


def test_augmentation(tmp_path: Path) -> None:
    """Moved by up to two pixels, and mirrored only where that is asked for."""
    folder = write_idx(tmp_path / "images", 40)
    plain = load_images(folder, "train")
    indices = np.arange(len(plain))
    originals = plain.batch(indices, 28)[0]
    kinds: tuple[Augmentation, ...] = ("full", "unmirrored", "none")
    made = {
        kind: load_images(folder, "train", kind).batch(indices, 28, np.random.default_rng(0))[0]
        for kind in kinds
    }
    assert torch.equal(made["none"], originals)
    assert all(
        is_moved(*pair, mirrored=False) for pair in zip(made["unmirrored"], originals, strict=True)
    )
    mirrored = [
        is_moved(*pair, mirrored=True) for pair in zip(made["full"], originals, strict=True)
    ]
    straight = [
        is_moved(*pair, mirrored=False) for pair in zip(made["full"], originals, strict=True)
    ]
    assert all(map(operator.or_, mirrored, straight))
    assert 5 < sum(mirrored) < 31


def is_moved(image: torch.Tensor, original: torch.Tensor, *, mirrored: bool) -> bool:
    """Whether an image is another, moved; its background is -1."""
    source = functional.pad(original, (2, 2, 2, 2), value=-1.0)
    for down, right in itertools.product(range(5), range(5)):
        moved = source[:, down : down + 28, right : right + 28]
        if torch.equal(moved.flip(2) if mirrored else moved, image):
            return True
    return False


@given(st.binary(max_size=40), st.integers(0, 20))
def test_any_bytes_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, kept: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "idx"
    if not (folder / IMAGES).exists():
        write_idx(folder, 20)
    whole = (folder / LABELS).read_bytes()
    broken = folder.with_name("broken")
    broken.mkdir(exist_ok=True)
    (broken / IMAGES).write_bytes((folder / IMAGES).read_bytes())
    content = whole[:kept] + tail
    (broken / LABELS).write_bytes(content)
    assume(content[:8] != whole[:8] or len(content) != len(whole))
    with pytest.raises(DataError, match=f"{LABELS} is no idx file|labels|images of train"):
        load_images(broken, "train")


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_to_split(tmp_path: Path, count: int) -> None:
    folder = write_idx(tmp_path / "images", count)
    with pytest.raises(DataError, match="at least 10 are needed"):
        load_images(folder, "train")


def test_a_head_that_promises_more_than_there_is(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "images", 20)
    head = bytes([0, 0, 8, 3]) + np.array([2**31, 2**10, 2**10], ">u4").tobytes()
    (folder / IMAGES).write_bytes(head)
    with pytest.raises(DataError, match="is no idx file"):
        load_images(folder, "train")


def test_what_is_no_folder_of_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        load_images(tmp_path / "none", "train")
