"""Small sets of images in MNIST's form, which networks can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def write_idx(folder: Path, count: int, classes: int = 10, size: int = 28) -> Path:
    """Noisy images of as many patterns as classes: ``count`` for training, half for tests."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (classes, size // 4, size // 4)).repeat(4, 1).repeat(4, 2)
    for part, number in (("train", count), ("t10k", count // 2)):
        labels = np.arange(number) % classes
        pixels = patterns[labels] + rng.integers(0, 56, (number, size, size))
        _write(folder / f"{part}-images-idx3-ubyte", pixels.astype(np.uint8))
        _write(folder / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    return folder


def _write(path: Path, array: npt.NDArray[np.uint8]) -> None:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.tobytes())
