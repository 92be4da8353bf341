"""Targets: supernets' checkpoints, measured subnets, idx files of images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from lutra.predictors.accuracy.samples import FORMAT, VERSION, SampleSource, read_samples
from tests.fuzz.documents import edited_archives
from tests.fuzz.grammar import damaged, edited, json_bytes
from tests.fuzz.oracle import require
from tests.fuzz.small_space import NAME, small_space, some_rows
from tests.fuzz.target import Target

_CHECKPOINT, _SAMPLES = "input.pth", "input.jsonl"


# checkpoints


def _read_checkpoint(data: bytes) -> None:
    """Load it as the space that it names, and as ours; every weight is a finite number."""
    from lutra.errors import CheckpointError
    from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint

    small_space()
    Path(_CHECKPOINT).write_bytes(data)
    checkpoint = read_checkpoint(_CHECKPOINT)
    for space in (None, NAME):
        try:
            supernet = load_supernet(checkpoint, space)
        except CheckpointError:
            continue
        require(not supernet.training, "a supernet that was read is in training")
        for name, tensor in supernet.state_dict().items():
            require(bool(tensor.isfinite().all()), f"{name} holds numbers that are not finite")


@cache
def _checkpoints() -> list[bytes]:
    """Ours and the published form, in halves: a mutation that is cut off at 64 KiB is of no use."""
    import torch

    from lutra.supernets.elastic.supernet import Supernet

    torch.manual_seed(0)
    weights = Supernet(small_space()).state_dict()
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
    }
    found = []
    for document in (
        {"lutra_supernet": 1, "space": NAME, "about": {"seed": 0}, "state_dict": halves},
        {"state_dict": halves},
    ):
        file = io.BytesIO()
        torch.save(document, file)
        found.append(file.getvalue())
    return found


# measured subnets


def _read_samples(data: bytes) -> None:
    """Every subnet is one of the space's, with an accuracy that is a percentage."""
    small_space()
    Path(_SAMPLES).write_bytes(data)
    samples = read_samples(_SAMPLES)
    top1 = samples.top1
    require(bool(np.all(np.isfinite(top1) & (top1 >= 0) & (top1 <= 100))), f"top-1 of {top1} %")
    if samples.source.space == NAME:
        known = {row.tobytes() for row in some_rows()}
        require(all(row.tobytes() in known for row in samples.rows), "a row of no network")
    require(len({row.tobytes() for row in samples.rows}) == len(samples.rows), "a row twice")
    require(len(samples.rows) == len(top1), "rows without an accuracy")


@cache
def _sample_documents() -> list[dict[str, Any]]:
    space = small_space()
    source = SampleSource(NAME, "ab" * 32, "images", "cd" * 16, 1000, 200)
    found: list[dict[str, Any]] = [{"format": FORMAT, "version": VERSION, **asdict(source)}]
    for place, row in enumerate(some_rows()[:6]):
        document = space.decode(row).to_json()
        found.append({**document, "top1_percent": 50.0 + place})
    return found


def _lines(documents: Sequence[Any]) -> bytes:
    return b"".join(json_bytes(document) + b"\n" for document in documents)


def _sample_grammar() -> SearchStrategy[bytes]:
    whole = edited([_sample_documents()], 3).map(
        lambda documents: _lines(documents if isinstance(documents, list) else [documents])
    )
    return st.one_of(whole, whole, damaged([_lines(_sample_documents())]))


# idx files: two bytes for the length of the labels, one that says what is compressed


def _read_images(data: bytes) -> None:
    """As many images as labels, pixels from 0 to 1."""
    from lutra.supernets.data.idx import IdxImages

    length, packed = int.from_bytes(data[:2], "big"), data[2:3]
    labels, images = data[3 : 3 + length], data[3 + length :]
    for name, content, bit in (("images-idx3", images, 1), ("labels-idx1", labels, 2)):
        suffix = ".gz" if packed and packed[0] & bit else ""
        Path(f"train-{name}-ubyte{suffix}").write_bytes(content)
    for split in ("train", "validation"):
        found = IdxImages(Path(), split)
        require(len(found) == len(found.labels) > 0, f"{len(found)} images of {split}")
        highest = int(found.labels.max())
        require(highest < len(found.classes), f"label {highest} of {len(found.classes)} classes")
        pixels = found.pixels(np.arange(min(4, len(found))), 8, None)
        require(tuple(pixels.shape[1:]) == (1, 8, 8), f"images of shape {tuple(pixels.shape)}")
        sound = (pixels >= -1e-3) & (pixels <= 1 + 1e-3)
        require(bool(sound.all()), f"pixels from {pixels.min()} to {pixels.max()}")


_IMAGE_FILES = frozenset(
    f"train-{name}-ubyte{suffix}"
    for name in ("images-idx3", "labels-idx1")
    for suffix in ("", ".gz")
)


@cache
def _image_sets() -> list[bytes]:
    import gzip

    def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        return head + array.tobytes()

    random = np.random.default_rng(0)
    images = idx(random.integers(0, 256, (20, 6, 6), dtype=np.uint8))
    labels = idx((np.arange(20) % 4).astype(np.uint8))
    packed_images, packed_labels = (gzip.compress(part, mtime=0) for part in (images, labels))
    return [
        len(first).to_bytes(2, "big") + bytes([packed]) + first + second
        for first, second, packed in (
            (labels, images, 0),
            (packed_labels, images, 2),
            (packed_labels, packed_images, 3),
        )
    ]


def _image_set(claimed: tuple[int, ...]) -> bytes:
    """Twenty labels, and a file that claims to hold images of such a shape."""
    plain = _image_sets()[0]
    labels = plain[: 3 + int.from_bytes(plain[:2], "big")]
    head = bytes([0, 0, 8, len(claimed)]) + np.array(claimed, ">u4").tobytes()
    return labels + head


@st.composite
def _image_grammar(draw: DrawFn) -> bytes:
    """Sizes that are not those of the content, and any damage."""
    data = bytearray(draw(damaged(_image_sets(), 3)))
    if len(data) > 3 and draw(st.booleans()):
        start = 3 + draw(st.sampled_from((0, int.from_bytes(data[:2], "big"))))
        place = start + draw(st.sampled_from((3, 4, 7, 8, 11, 12)))
        data[place : place + 4] = draw(st.sampled_from(_SIZES))
    return bytes(data)


_SIZES = tuple(
    value.to_bytes(4, "big")
    for value in (0, 1, 9, 10, 20, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
)


TARGETS = (
    Target(
        "checkpoints",
        _read_checkpoint,
        lambda: st.one_of(edited_archives(_checkpoints()), damaged(_checkpoints())),
        _checkpoints,
        leaves=frozenset({_CHECKPOINT}),
        suite_inputs=30,
    ),
    Target(
        "samples",
        _read_samples,
        _sample_grammar,
        lambda: [_lines(_sample_documents())],
        leaves=frozenset({_SAMPLES}),
    ),
    Target(
        "images",
        _read_images,
        _image_grammar,
        _image_sets,
        leaves=_IMAGE_FILES,
        examples=(
            _image_set((20, 6, 0)),
            _image_set((20, 1 << 13, (1 << 31) // (20 << 13))),  # and no such file
        ),
    ),
)
