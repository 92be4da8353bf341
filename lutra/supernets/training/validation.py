"""How good a supernet's networks are at a moment of its training."""

from __future__ import annotations

from lutra.spaces.architecture import Architecture
from lutra.supernets.data.base import ImageSet
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.supernets.supernet import Supernet


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
    tune_statistics(subnet, train, architecture.r)
    return top1(
        lambda images: subnet(images.to(device)), validation, architecture.r, limit=limit
    ).percent
