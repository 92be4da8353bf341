"""Image sets in MNIST's idx format: four files, perhaps compressed, all images in memory.

``{train,t10k}-images-idx3-ubyte`` (N, H, W) and ``{train,t10k}-labels-idx1-ubyte`` (N,), big-endian
(LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist). Fashion-MNIST (Xiao et al., 2017) has
the same form: Debian's package ``dataset-fashion-mnist``.
"""

from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lutra.errors import DataError
from lutra.supernets.data.base import ImageSet, Split, shuffled, validation_part

_MAX_BYTES = 2 << 30
_PIECE_BYTES = 1 << 20
_FEWEST = 10
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
        count = len(labels)
        if len(images) != count:
            raise DataError(f"{folder}: {len(images)} images of {part} with {count} labels")
        if count < _FEWEST:
            raise DataError(f"{folder} has {count} images of {part}: at least {_FEWEST} are needed")
        self.classes = tuple(map(str, range(int(labels.max()) + 1)))
        # In an order of chance also where all are taken: the first of them are a fair sample then.
        chosen = shuffled(count) if split == "test" else validation_part(count, split)
        self._images = torch.from_numpy(images[chosen])
        self.labels = labels[chosen]

    def pixels(
        self, indices: npt.NDArray[np.int64], resolution: int, rng: np.random.Generator | None
    ) -> Tensor:
        images = self._images[torch.from_numpy(indices)][:, None].float() / 255.0
        if rng is not None:
            images = _moved(images, rng, mirrors=self.augmentation == "full")
        if images.shape[-2:] != (resolution, resolution):
            images = functional.interpolate(
                images, (resolution, resolution), mode="bilinear", antialias=True
            )
        return images


def is_idx(folder: Path) -> bool:
    """Whether a folder holds such files."""
    return any(folder.glob("*-images-idx3-ubyte*"))


def _moved(images: Tensor, rng: np.random.Generator, *, mirrors: bool) -> Tensor:
    """Each image moved by up to two pixels and, where that is wanted, perhaps mirrored."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (_SHIFT,) * 4)
    down, right = torch.from_numpy(rng.integers(0, 2 * _SHIFT + 1, (2, count)))
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    if mirrors:
        mirrored = torch.from_numpy(rng.random(count) < 0.5)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None]][
        :, None
    ]


def _content(file: gzip.GzipFile | BufferedReader, most: int) -> bytearray:
    """What the file still has: `read` takes memory for as much as it is asked for, so by pieces."""
    data = bytearray()
    while len(data) < most and (piece := file.read(min(most - len(data), _PIECE_BYTES))):
        data += piece
    return data


def _read(folder: Path, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    head_bytes = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path == packed else path.open("rb") as file:
            head = file.read(head_bytes)
            is_idx_file = len(head) == head_bytes and head[:4] == _UNSIGNED_BYTES + bytes(
                [dimensions]
            )
            shape = tuple(np.frombuffer(head[4:], ">u4").tolist()) if is_idx_file else (0,)
            size = math.prod(shape)
            data = _content(file, size + 1) if 0 < size <= _MAX_BYTES else b""
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise DataError(f"cannot read {path}: {reason}") from error
    if not is_idx_file or size == 0 or len(data) != size:
        raise DataError(f"{path} is no idx file of {dimensions} dimensions, or it is damaged")
    return np.frombuffer(data, np.uint8).reshape(shape)
