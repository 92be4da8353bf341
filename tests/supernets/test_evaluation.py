"""Top-1 and its interval, statistics for one subnet."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from lutra.errors import DataError
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import Accuracy, batch_of, top1, tune_statistics
from tests.supernets.images import write_idx
from tests.supernets.test_supernet import MBV3, disturbed


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (7, 10), (10, 10), (812, 1000)])
def test_the_interval_is_wilson_s(correct: int, count: int) -> None:
    accuracy = Accuracy(correct, count)
    expected = binomtest(correct, count).proportion_ci(method="wilson")
    assert accuracy.interval_percent == pytest.approx((100 * expected.low, 100 * expected.high))
    assert accuracy.to_json()["top1"] == pytest.approx(100 * correct / count)


def test_top1_counts_right_answers(tmp_path: Path) -> None:
    images = load_images(write_idx(tmp_path, 100), "test")
    truth = torch.from_numpy(images.labels)
    seen: list[tuple[int, int]] = []

    def nearly(features: torch.Tensor) -> torch.Tensor:
        """Right but for the first image of each batch."""
        start = seen[-1][0] if seen else 0
        right = truth[start : start + len(features)].clone()
        right[0] = (right[0] + 1) % 10
        return torch.nn.functional.one_hot(right, 10)

    found = top1(nearly, images, 20, batch=8, on_step=lambda *step: seen.append(step))
    assert (found.correct, found.count) == (50 - 7, 50)
    assert seen[-1] == (50, 50)
    seen.clear()
    assert top1(nearly, images, 20, batch=8, limit=10).count == 10


def test_statistics_are_those_of_the_images(tmp_path: Path) -> None:
    images = load_images(write_idx(tmp_path, 60), "train")
    supernet = Supernet(MBV3)
    disturbed(supernet)
    subnet = supernet.subnet(supernet.smallest()).eval()
    first = subnet.norms[next(iter(subnet.norms))]
    assert isinstance(first, torch.nn.BatchNorm2d)
    assert tune_statistics(subnet, images, 20) == len(images)
    features = images.batch(np.arange(len(images)), 20)[0]
    with torch.no_grad():
        values = subnet.layers[next(iter(subnet.norms))](features)
    assert first.running_mean is not None
    assert torch.allclose(first.running_mean, values.mean((0, 2, 3)), atol=1e-5)
    assert not subnet.training
    assert tune_statistics(subnet, images, 20, count=7) == 7


def test_batches_hold_as_many_pixels_as_fit() -> None:
    assert [batch_of(r) for r in (28, 128, 224, 1000)] == [250, 128, 41, 16]


@pytest.mark.parametrize("count", [2, 251])
def test_statistics_of_any_number_of_images(tmp_path: Path, count: int) -> None:
    """The last maps of these networks have one pixel: a single image left over had no variance."""
    images = load_images(write_idx(tmp_path / "images", 300), "train")
    subnet = Supernet("ofa-mbv3-fashion").subnet()
    assert tune_statistics(subnet, images, 28, count) == count
    with pytest.raises(DataError, match="at least 2 images"):
        tune_statistics(subnet, images, 28, 1)
