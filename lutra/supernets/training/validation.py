"""How good a supernet's networks are at a moment of its training."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lutra.spaces.architecture import Architecture
from lutra.supernets.batch_norm import reestimate_statistics
from lutra.supernets.data.base import ImageSet
from lutra.supernets.subnet import Subnet
from lutra.supernets.supernet import Supernet
from lutra.supernets.training.losses import Batch

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
    known = (Batch(*batch) for batch in train.batches(architecture.r, _BATCH, STATISTICS_IMAGES))
    reestimate_statistics(subnet, (batch.on(device).images for batch in known))
    asked = (Batch(*batch) for batch in validation.batches(architecture.r, _BATCH, limit))
    return _accuracy_percent(subnet, (batch.on(device) for batch in asked))


def _accuracy_percent(network: Subnet, batches: Iterable[Batch]) -> float:
    right = count = 0
    for images, labels in batches:
        right += int((network(images).argmax(1) == labels).sum())
        count += len(labels)
    return 100.0 * right / count
