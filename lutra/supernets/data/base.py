"""The contract of a set of images, and how pixels become what networks are given.

Pixels 0..255 become (pixel / 255 - mean) / deviation per channel: ImageNet's numbers for colour
images, as for all published networks, one half each for others. Exported files take the same.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lutra.errors import DataError
from lutra.spaces.base import SearchSpace

Split = Literal["train", "validation", "test"]
"""``validation`` is a part of the training images that nothing is trained on."""

Augmentation = Literal["full", "unmirrored", "none"]
"""How training images are varied: cropped or moved, and mirrored; not mirrored, as digits and
letters must not be; or not at all."""
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)

VALIDATION_SHARE = 0.1
_SAMPLED = 64  # images that tell one set from another
_SAMPLED_PIXELS = 28  # a side; MNIST's, which are then taken as they are
_COLOUR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ImageSet(ABC):
    """Labelled images of one split; ``classes`` are their names, in the labels' order."""

    source: str
    channels: int
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    augmentation: Augmentation = "full"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def identity(self) -> str:
        """A digest of classes, labels and a sample of the pixels, wherever the images lie.

        Raises `DataError` for an image that cannot be read.
        """
        chosen = np.linspace(0, len(self) - 1, min(_SAMPLED, len(self))).astype(np.int64)
        pixels = self.pixels(chosen, _SAMPLED_PIXELS, None)
        # whole numbers: the last digits of what was resized depend on the machine
        content = (pixels * 255).round().to(torch.uint8).numpy()
        digest = hashlib.sha256(repr((self.classes, tuple(content.shape))).encode())
        digest.update(self.labels.tobytes())
        digest.update(content.tobytes())
        return digest.hexdigest()[:16]

    @abstractmethod
    def pixels(
        self, indices: npt.NDArray[np.int64], resolution: int, rng: np.random.Generator | None
    ) -> Tensor:
        """(N, channels, resolution, resolution) float32 of 0..1.

        With ``rng`` cropped or moved, and mirrored where that is part of the set's augmentation;
        else resized and cropped to the centre. Raises `DataError` for an image that cannot be read.
        """

    def batch(
        self,
        indices: npt.NDArray[np.int64],
        resolution: int,
        rng: np.random.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Images as networks take them (N, C, H, W), and labels (N,); augmented with ``rng``."""
        if self.augmentation == "none":
            rng = None
        mean, deviation = normalisation(self.channels)
        images = (self.pixels(indices, resolution, rng) - mean) / deviation
        return images, torch.from_numpy(self.labels[indices])

    def batches(
        self, resolution: int, size: int, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images (or the first ``limit``) in order, not augmented, ``size`` at a time."""
        count = len(self) if limit is None else min(limit, len(self))
        for start in range(0, count, size):
            yield self.batch(np.arange(start, min(start + size, count)), resolution)

    def require_fit(self, space: SearchSpace) -> None:
        """Raise `DataError` unless a space's networks take these images and know these classes."""
        rows = space.decode(space.choice_counts - 1)
        ops = space.ops_of(rows)
        channels, classes = ops[0].input_shape.channels, ops[-1].output_shape.channels
        if self.channels != channels:
            raise DataError(
                f"{self.source}: its images have {self.channels} channels; networks of"
                f" {space.name} take {channels}"
            )
        if len(self.classes) != classes:
            raise DataError(
                f"{self.source}: it has {len(self.classes)} classes; networks of {space.name}"
                f" know {classes}: name a space with classes={len(self.classes)}"
            )


def normalisation(channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation (C, 1, 1) of pixels of 0..1."""
    mean, deviation = _COLOUR if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    return torch.tensor(mean)[:, None, None], torch.tensor(deviation)[:, None, None]


def shuffled(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A seeded order of so many images."""
    return np.random.default_rng(seed).permutation(count)


def validation_part(count: int, split: Split) -> npt.NDArray[np.int64]:
    """The training images' indices that are for validation, or the rest, in an order of chance."""
    order = shuffled(count)
    held = max(1, round(VALIDATION_SHARE * count))
    return order[:held] if split == "validation" else order[held:]
