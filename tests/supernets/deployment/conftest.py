"""A supernet's checkpoint of which one subnet was trained for some seconds, on real images."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

from lutra.spaces import Architecture
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.data.base import ImageSet
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.images import write_idx
from tests.supernets.test_supernet import MBV3

FASHION = Path("/usr/share/datasets/fashion-mnist")
_STEPS, _BATCH = 90, 32
_TRAIN, _TEST = 2400, 500


class Trained(NamedTuple):
    """A checkpoint, the architecture in it that learned something, and the images it did on."""

    checkpoint: Path
    architecture: Architecture
    data: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """On a part of Fashion-MNIST where Debian's package has it, else on patterns in noise."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_idx(folder / "images", _TRAIN)
    if FASHION.exists():
        copy_part(data, "train", _TRAIN)
        copy_part(data, "t10k", _TEST)
    supernet = Supernet(MBV3)
    architecture = supernet.smallest()
    learn(supernet, architecture, load_images(data, "train"))
    save_supernet(supernet, folder / "supernet.pt", {"steps": _STEPS})
    return Trained(folder / "supernet.pt", architecture, data)


def copy_part(folder: Path, part: str, count: int) -> None:
    """The first images of a part of Fashion-MNIST, with their labels, as files that load fast."""
    for name, head in ((f"{part}-images-idx3-ubyte", 16), (f"{part}-labels-idx1-ubyte", 8)):
        with gzip.open(FASHION / f"{name}.gz") as file:
            start = file.read(head)
            content = file.read(count * (28 * 28 if head == 16 else 1))
        (folder / name).write_bytes(start[:4] + count.to_bytes(4, "big") + start[8:] + content)


def learn(supernet: Supernet, architecture: Architecture, images: ImageSet) -> None:
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    rng = np.random.default_rng(0)
    supernet.train()
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / _STEPS)
        chosen = rng.integers(0, len(images), _BATCH)
        features, labels = images.batch(chosen, architecture.r, rng)
        optimizer.zero_grad()
        loss = functional.cross_entropy(supernet(features, architecture), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
