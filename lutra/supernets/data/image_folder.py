"""Image sets from folders: one folder per class, perhaps one per split above them.

``FOLDER/{train,val,test}/CLASS/IMAGE`` as ImageNet is kept, or ``FOLDER/CLASS/IMAGE``, which is
split here: a tenth for tests, of the rest a tenth for validation, the same ones each time. Training
augments as He et al. (2016) and OFA do: a random crop of 8 to 100 % of the area at an aspect of 3/4
to 4/3, perhaps mirrored. Otherwise the middle seven eighths of the shorter side are taken: resizing
to r / 0.875 and cropping to r.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lutra.errors import DataError
from lutra.supernets.data.base import ImageSet, Split, shuffled, validation_part
from lutra.supernets.data.pictures import (
    SUFFIXES,
    is_grey,
    read_centre,
    read_random_crop,
)
from lutra.text import printable_line

_FOLDERS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}
_ENDINGS = tuple(SUFFIXES)
_TEST_SHARE = 0.1
_LOOKED_AT = 16  # images that tell whether all are grey
_MOST_THREADS = 8


class FolderImages(ImageSet):
    """Image files with labels, read when they are asked for, by several threads.

    They are in an order of chance, the same each time: the first ones are a sample of all.
    """

    def __init__(
        self,
        source: str,
        classes: Sequence[str],
        files: Sequence[str],
        labels: npt.NDArray[np.int64],
        channels: int | None = None,
    ) -> None:
        """``channels`` is 1 where images are to be grey, 3 for colour, by default what they are."""
        order = shuffled(len(files))
        self.source = source
        self.classes = tuple(classes)
        self.labels = labels[order]
        self._files = [files[index] for index in order]
        self.channels = channels or (1 if all(map(is_grey, self._files[:_LOOKED_AT])) else 3)

    def pixels(
        self, indices: npt.NDArray[np.int64], resolution: int, rng: np.random.Generator | None
    ) -> Tensor:
        files = [self._files[index] for index in indices]
        batch = np.empty((len(files), resolution, resolution, self.channels), np.uint8)
        mirrors = self.augmentation == "full"
        seeds = None if rng is None else rng.integers(0, 1 << 62, len(files))

        def read(place: int) -> None:
            if seeds is None:
                picture = read_centre(files[place], resolution, self.channels)
            else:
                own = np.random.default_rng(seeds[place])
                picture = read_random_crop(
                    files[place], resolution, self.channels, own, mirrors=mirrors
                )
            batch[place] = picture.reshape(batch[place].shape)

        list(self._pool.map(read, range(len(files))))
        return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255.0

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        return ThreadPoolExecutor(threads, thread_name_prefix="images")


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds folders: of splits, or of classes."""
    return bool(_folders_in(folder))


def load_folder(folder: Path, split: Split) -> FolderImages:
    """A split of the images in a folder's folders.

    Raises `DataError` for a split that is not there, folders without images, a single class, and
    splits of different classes.
    """
    parts = {name: found for name in _FOLDERS if (found := _part(folder, name)) is not None}
    if not parts:
        return _of_one_part(folder, split)
    held = split == "validation" and "validation" not in parts
    part = "train" if held and "train" in parts else split
    if part not in parts:
        there = ", ".join(path.name for path in parts.values())
        raise DataError(
            f"{folder} has no folder '{_FOLDERS[part][0]}' for the split {split}; it has {there}"
        )
    classes = _common_classes(parts)
    files, labels = _files_of(parts[part], classes)
    if held or (split == "train" and "validation" not in parts):
        files, labels = _chosen(files, labels, validation_part(len(files), split))
    return FolderImages(str(folder), classes, files, labels)


def load_unlabelled(folder: Path, channels: int) -> FolderImages:
    """The training images in a folder, or else all anywhere in it, whatever their classes.

    Raises `DataError` where there are none.
    """
    files = _images_in(_part(folder, "train") or folder)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return FolderImages(str(folder), ("",), files, np.zeros(len(files), np.int64), channels)


def _part(folder: Path, split: Split) -> Path | None:
    """The folder of a split, if there is one that holds folders."""
    paths = (folder / name for name in _FOLDERS[split])
    return next((path for path in paths if path.is_dir() and _folders_in(path)), None)


def _of_one_part(folder: Path, split: Split) -> FolderImages:
    classes = _classes_in(folder)
    files, labels = _files_of(folder, classes)
    order = shuffled(len(files))
    tests = max(1, round(_TEST_SHARE * len(files)))
    chosen = order[:tests]
    if split != "test":
        rest = order[tests:]
        chosen = rest[validation_part(len(rest), split)]
    if not len(chosen):
        raise DataError(f"{folder} has {len(files)} images: too few to split")
    return FolderImages(str(folder), classes, *_chosen(files, labels, chosen))


def _common_classes(parts: Mapping[Split, Path]) -> tuple[str, ...]:
    """The classes of all splits; raises `DataError` where they differ."""
    first, *others = parts.values()
    classes = _classes_in(first)
    for other in others:
        theirs = set(_classes_in(other))
        for name in sorted(theirs ^ set(classes)):
            there, lacks = (other, first) if name in theirs else (first, other)
            raise DataError(
                f"{there} has the class '{printable_line(name)}', which {lacks} lacks: the splits"
                " must have the same classes"
            )
    return classes


def _classes_in(folder: Path) -> tuple[str, ...]:
    classes = tuple(_folders_in(folder))
    if len(classes) < 2:
        held = f"one class only ('{printable_line(classes[0])}')" if classes else "no class folders"
        raise DataError(f"{folder} holds {held}; every class needs a folder of its own there")
    return classes


def _files_of(folder: Path, classes: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """All images of the classes, with their labels."""
    files: list[str] = []
    counts = []
    for name in classes:
        found = _images_in(folder / name)
        if not found:
            raise DataError(f"{folder / name} holds no images ({', '.join(sorted(SUFFIXES))})")
        files += found
        counts.append(len(found))
    return files, np.repeat(np.arange(len(classes)), counts)


def _chosen(
    files: Sequence[str], labels: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]
) -> tuple[list[str], npt.NDArray[np.int64]]:
    return [files[index] for index in indices], labels[indices]


def _folders_in(folder: Path) -> list[str]:
    try:
        names = (path.name for path in folder.iterdir() if path.is_dir())
        return sorted(name for name in names if not name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from error


def _images_in(folder: Path) -> list[str]:
    """All image files in a folder and those within it, hidden ones aside."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [
            f"{place}/{name}"
            for name in sorted(names)
            if not name.startswith(".") and name.lower().endswith(_ENDINGS)
        ]
    return found
