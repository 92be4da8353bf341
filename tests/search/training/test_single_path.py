"""Single-path search from a table and images to a trained network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import lutra
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.training.single_path import SinglePathSearch, train_single_path
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.data.loading import load_images
from lutra.supernets.evaluation import top1
from tests.conftest import SMALL_SPACE
from tests.supernets.images import write_idx


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("images"), 200)


@pytest.fixture(scope="module")
def budget_ms(precisions_once: dict[str, Path]) -> float:
    """Half-way between the fastest and the slowest network."""
    latency = EfficiencyPredictor(precisions_once["fp32"]).latency
    return (latency.cheapest([28])[0] + latency.dearest([28])[0]) / 2.0


@pytest.fixture(scope="module")
def found(precisions_once: dict[str, Path], images: Path, budget_ms: float) -> SinglePathSearch:
    table = precisions_once["fp32"]
    return train_single_path(
        table, images, max_latency_ms=budget_ms, epochs=6, fine_tune_epochs=1, learning_rate=0.1
    )


def test_what_is_found_keeps_the_budget_and_uses_it(
    found: SinglePathSearch, budget_ms: float
) -> None:
    best = found.result.best
    assert best.predicted_high_ms is not None
    assert 0.97 * budget_ms < best.predicted_high_ms <= budget_ms
    assert found.result.limits == {"latency_ms": budget_ms}


def test_the_search_learns_and_grows_faster(found: SinglePathSearch, budget_ms: float) -> None:
    first, last = found.steps[0], found.steps[-1]
    assert len(found.steps) == 6 * (180 // 64)
    assert first.runtime_ms > 1.2 * budget_ms  # the largest network
    assert last.runtime_ms < 0.9 * first.runtime_ms
    assert max(step.multiplier for step in found.steps) > 0
    assert last.cross_entropy < first.cross_entropy


def test_the_result_has_the_accuracy_of_the_weights(
    found: SinglePathSearch, images: Path, tmp_path: Path
) -> None:
    found.write_weights(tmp_path / "network.pth")
    architecture, subnet = load_network(tmp_path / "network.pth")
    best = found.result.best
    assert architecture == best.architecture
    measured = top1(subnet, load_images(images, "validation"), 28)
    assert best.evaluated is not None
    assert (measured.percent, measured.count) == (best.accuracy, best.evaluated.evaluated_images)
    found.result.write(tmp_path / "result.json")
    assert lutra.SearchResult.read(tmp_path / "result.json") == found.result


def test_the_curve_is_written(found: SinglePathSearch, tmp_path: Path) -> None:
    found.write_curve(tmp_path / "curve.json")
    found.write_curve(tmp_path / "curve.json")  # its own kind is replaced
    steps = json.loads((tmp_path / "curve.json").read_text())["steps"]
    assert [step["runtime_ms"] for step in steps] == [step.runtime_ms for step in found.steps]
    assert steps[0]["architecture"]["space"] == SMALL_SPACE
    (tmp_path / "mine.json").write_text('{"a": 1}')
    with pytest.raises(lutra.UsageError, match="a file of another kind"):
        found.write_curve(tmp_path / "mine.json")


def test_the_same_seed_finds_the_same(precisions_once: dict[str, Path], tmp_path: Path) -> None:
    """From a supernet's weights, with a trade-off in the place of a budget."""
    images = write_idx(tmp_path / "few", 20)
    first, second = (
        train_single_path(
            precisions_once["fp32"], images, trade_off=2.0, epochs=1, fine_tune_epochs=0,
            checkpoint=shipped_checkpoint(SMALL_SPACE), seed=3,
        )
        for _ in range(2)
    )  # fmt: skip
    assert first.steps == second.steps
    assert first.result.candidates == second.result.candidates
    weights = zip(first.subnet.parameters(), second.subnet.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in weights)
    assert {step.multiplier for step in first.steps} == {2.0}
    assert first.result.hyperparameters["augmentation"] == "none"  # as that supernet was trained


def test_what_cannot_be_is_said_before_anything_is_trained(
    precisions_once: dict[str, Path], images: Path, budget_ms: float, tmp_path: Path
) -> None:
    table = precisions_once["fp32"]
    with pytest.raises(lutra.InfeasibleError, match="predicted upper limit"):
        train_single_path(table, images, max_latency_ms=1e-3)
    with pytest.raises(lutra.MissingOpError, match="lacks"):
        train_single_path(table, images, max_latency_ms=budget_ms, resolution=20)
    with pytest.raises(lutra.DataError, match="it has 3 classes"):
        train_single_path(
            table, write_idx(tmp_path / "three", 20, classes=3), max_latency_ms=budget_ms
        )
    with pytest.raises(lutra.UsageError, match="must be 0 or more"):
        train_single_path(table, images, trade_off=-1.0)
    with pytest.raises(lutra.UsageError, match="0 epochs of search"):
        train_single_path(table, images, max_latency_ms=budget_ms, epochs=0)
    with pytest.raises(lutra.UsageError, match="seed -1"):
        train_single_path(table, images, max_latency_ms=budget_ms, seed=-1)
    with pytest.raises(lutra.UsageError, match="a learning rate of nan"):
        train_single_path(table, images, max_latency_ms=budget_ms, learning_rate=float("nan"))


def test_a_loss_that_is_no_number_ends_it(
    precisions_once: dict[str, Path], images: Path, budget_ms: float
) -> None:
    with pytest.raises(lutra.TrainingError, match="try a smaller learning rate than 1e"):
        train_single_path(
            precisions_once["fp32"], images, max_latency_ms=budget_ms, epochs=5,
            fine_tune_epochs=0, learning_rate=1e30,
        )  # fmt: skip
