"""Statistics of batch normalisations: those that subnets share are no single one's own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lutra.supernets.subnet import Subnet


@torch.no_grad()
def reestimate_statistics(network: Subnet, batches: Iterable[Tensor]) -> None:
    """Set the mean and variance of every batch normalisation to those over these images.

    About 2,000 training images do (OFA's code). The network is left in inference mode.
    Raises ValueError where there are none.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # an average over all batches
    network.eval()
    for norm in norms:
        norm.train()
    count = 0
    for images in batches:
        network(images)
        count += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    if not count:
        raise ValueError("there are no images to estimate statistics from")
