"""How often a network is right: top-1 on labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lutra.errors import DataError
from lutra.spaces.architecture import Architecture
from lutra.supernets.batch_norm import reestimate_statistics
from lutra.supernets.data.base import ImageSet, shuffled
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.pruning.removal import NarrowerNetworks
from lutra.supernets.subnet import Subnet

ENOUGH_IMAGES = 2000  # for statistics, as in OFA's code
_BATCH_PIXELS = 1 << 21
_SMALLEST_BATCH, _LARGEST_BATCH = 16, 250
_NORMAL_95 = 1.959964
_FEWEST = 2  # a single one has no variance

OnStep = Callable[[int, int], None]
"""Told how many steps are done, and of how many."""


@dataclass(frozen=True)
class Accuracy:
    """Right answers to ``count`` images."""

    correct: int
    count: int

    @property
    def percent(self) -> float:
        """Top-1 in percent."""
        return 100.0 * self.correct / self.count

    @property
    def interval_percent(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy on further such images, in percent (Wilson, 1927)."""
        share, z, n = self.correct / self.count, _NORMAL_95, self.count
        centre = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return 100.0 * max(0.0, centre - half), 100.0 * min(1.0, centre + half)

    def to_json(self) -> dict[str, Any]:
        """For JSON; percentages."""
        low, high = self.interval_percent
        return {"top1": self.percent, "low": low, "high": high, "images": self.count}


def top1(
    network: Callable[[Tensor], Tensor],
    images: ImageSet,
    resolution: int,
    *,
    limit: int | None = None,
    batch: int | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> Accuracy:
    """Accuracy of a network, (N, C, H, W) to (N, classes), on a set or its first ``limit`` images.

    A module is to be in inference mode. Raises `DataError` for images that cannot be read.
    """
    count = len(images) if limit is None else min(limit, len(images))
    correct = done = 0
    with torch.inference_mode():
        for features, labels in images.batches(resolution, batch or batch_of(resolution), count):
            correct += int((network(features).argmax(1).cpu() == labels).sum())
            done += len(labels)
            on_step(done, count)
    return Accuracy(correct, count)


def tune_statistics(
    subnet: Subnet, images: ImageSet, resolution: int, count: int = ENOUGH_IMAGES, seed: int = 0
) -> int:
    """Re-estimate a subnet's batch normalisations on so many training images, drawn by chance.

    The images are not augmented: statistics are for what the network will see. Returns how many
    images there were. Raises `DataError` for images that cannot be read.
    """
    chosen = shuffled(len(images), seed)[:count]
    if len(chosen) < _FEWEST:
        raise DataError(
            f"{images.source}: statistics need at least {_FEWEST} images, not {len(chosen)}"
        )
    device = next(subnet.parameters()).device
    # In parts of one size, for they count alike.
    parts = np.array_split(chosen, math.ceil(len(chosen) / batch_of(resolution)))
    reestimate_statistics(subnet, (images.batch(p, resolution)[0].to(device) for p in parts))
    return len(chosen)


def batch_of(resolution: int) -> int:
    """How many images go at once: many small ones, few large ones."""
    return max(_SMALLEST_BATCH, min(_BATCH_PIXELS // resolution**2, _LARGEST_BATCH))


def inherited_top1(
    supernet: Supernet | NarrowerNetworks,
    architecture: Architecture,
    train: ImageSet,
    validation: ImageSet,
    *,
    calibration_images: int = ENOUGH_IMAGES,
    limit: int | None = None,
) -> Accuracy:
    """A subnet's accuracy at its resolution on validation images: all, or the first ``limit``.

    The subnet is a copy whose batch normalisations are estimated on training images.
    """
    device = next(supernet.parameters()).device
    subnet = supernet.subnet(architecture).to(device)
    tune_statistics(subnet, train, architecture.r, calibration_images)
    return top1(lambda images: subnet(images.to(device)), validation, architecture.r, limit=limit)
