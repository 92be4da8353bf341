"""How good a supernet's networks are at a moment of its training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lutra.spaces.architecture import Architecture
from lutra.supernets.batch_norm import reestimate_statistics
from lutra.supernets.data.base import ImageSet
from lutra.supernets.subnet import Subnet
from lutra.supernets.supernet import Supernet

STATISTICS_IMAGES = 2000
_BATCH = 200


@torch.no_grad()
def top1_percent(
    supernet: Supernet,
    architecture: Architecture,
    train: ImageSet,
    validation: ImageSet,
    limit: int | None = None,
) -> float:
    """The share of validation images (at most ``limit``) that a subnet gets right, in percent.

    The subnet is a copy whose batch normalisations are estimated on training images.
    """
    device = next(supernet.parameters()).device
    subnet = supernet.subnet(architecture).to(device)
    images = train.batches(architecture.r, _BATCH, STATISTICS_IMAGES)
    reestimate_statistics(subnet, (batch.to(device) for batch, _ in images))
    return _accuracy_percent(subnet, validation.batches(architecture.r, _BATCH, limit), device)


def _accuracy_percent(
    network: Subnet, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device
) -> float:
    right = count = 0
    for images, labels in batches:
        guessed = network(images.to(device)).argmax(1).cpu()
        right += int((guessed == labels).sum())
        count += len(labels)
    return 100.0 * right / count
