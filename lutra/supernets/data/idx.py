"""Image sets in MNIST's idx format: four files, perhaps compressed, all images in memory.

``{train,t10k}-images-idx3-ubyte`` (N, H, W) and ``{train,t10k}-labels-idx1-ubyte`` (N,), big-endian
(LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist). Fashion-MNIST (Xiao et al., 2017) has
the same form: Debian's package ``dataset-fashion-mnist``.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lutra.errors import DataError
from lutra.supernets.data.base import ImageSet, Split, validation_part

_MAX_BYTES = 2 << 30
_UNSIGNED_BYTES = b"\x00\x00\x08"
_SHIFT = 2  # pixels that an augmented image is moved by at most


class IdxImages(ImageSet):
    """One split of an idx data set."""

    def __init__(self, folder: Path, split: Split) -> None:
        """Raises `DataError` for files that are missing, damaged or do not fit together."""
        part = "t10k" if split == "test" else "train"
        images = _read(folder, f"{part}-images-idx3-ubyte", 3)
        labels = _read(folder, f"{part}-labels-idx1-ubyte", 1).astype(np.int64)
        self.source = str(folder)
        self.channels = 1
        if len(images) != len(labels) or not len(labels):
            raise DataError(f"{folder}: {len(images)} images of {part} with {len(labels)} labels")
        self.classes = tuple(map(str, range(int(labels.max()) + 1)))
        if split != "test":
            chosen = validation_part(len(labels), split)
            images, labels = images[chosen], labels[chosen]
        self._images = torch.from_numpy(images.copy())
        self.labels = labels

    def pixels(
        self, indices: npt.NDArray[np.int64], resolution: int, rng: np.random.Generator | None
    ) -> Tensor:
        images = self._images[torch.from_numpy(indices)][:, None].float() / 255.0
        if rng is not None:
            images = _moved(images, rng)
        if images.shape[-2:] != (resolution, resolution):
            images = functional.interpolate(
                images, (resolution, resolution), mode="bilinear", antialias=True
            )
        return images


def is_idx(folder: Path) -> bool:
    """Whether a folder holds such files."""
    return any(folder.glob("*-images-idx3-ubyte*"))


def _moved(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image moved by up to two pixels and perhaps mirrored."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (_SHIFT,) * 4)
    down, right = torch.from_numpy(rng.integers(0, 2 * _SHIFT + 1, (2, count)))
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None]][
        :, None
    ]


def _read(folder: Path, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    try:
        with gzip.open(path) if path == packed else path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise DataError(f"cannot read {path}: {reason}") from error
    head = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(data[4:head], ">u4").tolist())
    if data[:4] != _UNSIGNED_BYTES + bytes([dimensions]) or len(data) - head != math.prod(shape):
        raise DataError(f"{path} is no idx file of {dimensions} dimensions, or it is damaged")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
