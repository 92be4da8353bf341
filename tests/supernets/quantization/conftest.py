"""The smallest network of the supernet that comes with lutra, and images for it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from lutra.spaces import Architecture, get_space
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.data.loading import load_images
from lutra.supernets.evaluation import tune_statistics
from lutra.supernets.subnet import Subnet
from tests.supernets.deployment.conftest import FASHION, copy_part
from tests.supernets.images import write_idx

SPACE = "ofa-mbv3-fashion"
_IMAGES = 1500


class Shipped(NamedTuple):
    """A checkpoint, one of its architectures, and a folder of images."""

    checkpoint: Path
    architecture: Architecture
    data: Path


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """On a part of Fashion-MNIST where Debian's package has it, else on patterns in noise."""
    data = write_idx(tmp_path_factory.mktemp("shipped") / "images", _IMAGES)
    if FASHION.exists():
        copy_part(data, "train", _IMAGES)
        copy_part(data, "t10k", _IMAGES // 2)
    checkpoint = shipped_checkpoint(SPACE)
    assert checkpoint is not None
    space = get_space(SPACE)
    return Shipped(checkpoint, space.decode(space.choice_counts * 0), data)


@pytest.fixture(scope="session")
def network(shipped: Shipped) -> Subnet:
    """The network with statistics of its own; not to be changed."""
    _, network = load_network(shipped.checkpoint, shipped.architecture)
    tune_statistics(network, load_images(shipped.data, "train"), shipped.architecture.r)
    return network


@pytest.fixture(scope="session")
def images(shipped: Shipped) -> torch.Tensor:
    """Validation images, as the network takes them."""
    chosen = load_images(shipped.data, "validation")
    features, _ = next(iter(chosen.batches(shipped.architecture.r, 150)))
    return features
