"""A small training: four classes of grey images, networks of two to four blocks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lutra.supernets.training.train import TrainedSupernet, train_supernet
from tests.supernets.images import write_idx
from tests.supernets.training.tiny import CLASSES, OPTIONS, SIZE, SPACE

Train = Callable[..., TrainedSupernet]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("images"), 80, CLASSES, SIZE)


@pytest.fixture
def train(images: Path) -> Train:
    def call(output: Path, **options: Any) -> TrainedSupernet:
        return train_supernet(SPACE, images, output, **{**OPTIONS, **options})

    return call


@pytest.fixture(scope="session")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedSupernet:
    """A training that nothing disturbed."""
    return train_supernet(SPACE, images, tmp_path_factory.mktemp("unbroken"), threads=1, **OPTIONS)
