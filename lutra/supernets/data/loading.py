"""Image sets from a folder, whatever form they have there."""

from __future__ import annotations

from pathlib import Path

from lutra.errors import DataError
from lutra.supernets.data.base import ImageSet, Split
from lutra.supernets.data.idx import IdxImages, is_idx


def load_images(folder: str | Path, split: Split) -> ImageSet:
    """A split of the images in a folder: idx files as of MNIST.

    Raises `DataError` for a folder that holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if is_idx(folder):
        return IdxImages(folder, split)
    raise DataError(f"{folder} holds no idx files (train-images-idx3-ubyte and so on)")
