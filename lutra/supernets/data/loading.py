"""Image sets from a folder, whatever form they have there."""

from __future__ import annotations

from pathlib import Path

from lutra.errors import DataError
from lutra.supernets.data.base import Augmentation, ImageSet, Split
from lutra.supernets.data.idx import IdxImages, is_idx


def load_images(folder: str | Path, split: Split, augmentation: Augmentation = "full") -> ImageSet:
    """A split of the images in a folder: idx files as of MNIST, or image files in class folders.

    ``augmentation`` is what training does to them. Raises `DataError` for a folder that holds
    neither.
    """
    images = _loaded(Path(folder), split)
    images.augmentation = augmentation
    return images


def _loaded(folder: Path, split: Split) -> ImageSet:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if is_idx(folder):
        return IdxImages(folder, split)
    from lutra.supernets.data.image_folder import is_image_folder, load_folder  # needs Pillow

    if is_image_folder(folder):
        return load_folder(folder, split)
    raise DataError(
        f"{folder} holds neither folders of images (train/CLASS/*.jpg, or CLASS/*.jpg) nor idx"
        " files (train-images-idx3-ubyte and so on)"
    )


def load_unlabelled(folder: str | Path, channels: int) -> ImageSet:
    """Training images for what needs no labels, of ``channels`` where files can give them.

    Idx files, class folders, or images anywhere in the folder. Raises `DataError` for none.
    """
    folder = Path(folder)
    if not folder.is_dir() or is_idx(folder):
        return load_images(folder, "train")
    from lutra.supernets.data import image_folder

    return image_folder.load_unlabelled(folder, channels)
