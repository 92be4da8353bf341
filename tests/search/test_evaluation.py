"""Evaluating what was found: measured with the supernet, ordered by it, kept in the file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import ResultError, UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.predictors.accuracy.base import Accuracies
from lutra.profiler.profile import profile
from lutra.search.find import find_networks
from lutra.search.measuring.evaluation import evaluate
from lutra.search.result import SearchResult
from lutra.spaces import Rows, get_space
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.small_data import write_small_data
from tests.supernets.test_supernet import MBV3, PROXYLESS, disturbed


class Sizes(AccuracyPredictor):
    """More is better."""

    name = "an invented model"
    space = MBV3
    resolutions = (28,)
    provenance = "invented"

    def __init__(self) -> None:
        self.quality = {}

    def predict(self, rows: Rows) -> Accuracies:
        return np.asarray(50.0 + 0.1 * self.canonical(rows).sum(axis=1), dtype=np.float64)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    table = tmp_path_factory.mktemp("table") / "fake.lut"
    profile(FakeDevice(FakeScript()), MBV3, table, resolutions=[28], networks=0)
    return find_networks(table, max_latency_ms=1e3, accuracy=Sizes(), algorithm="random")


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> InheritedAccuracy:
    folder = tmp_path_factory.mktemp("supernet")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(MBV3)
    disturbed(supernet)
    save_supernet(supernet, folder / "s.pth", {})
    data = write_small_data(folder / "stripes", train=300)
    return InheritedAccuracy.read(folder / "s.pth", data, calibration_images=30)


def test_the_first_are_measured_and_ordered_by_it(
    result: SearchResult, accuracy: InheritedAccuracy, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    evaluated = evaluate(result, accuracy, count=4, on_step=lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    measured = []
    for candidate in evaluated.candidates[:4]:
        assert candidate.evaluated is not None
        assert candidate.evaluated.evaluated_images == 30
        again = accuracy.of(candidate.architecture)
        assert candidate.evaluated.measured_accuracy == again.percent
        assert (
            candidate.evaluated.accuracy_low <= again.percent <= candidate.evaluated.accuracy_high
        )
        measured.append(again.percent)
    assert measured == sorted(measured, reverse=True)
    before = {candidate.architecture for candidate in result.candidates[:4]}
    assert {candidate.architecture for candidate in evaluated.candidates[:4]} == before
    assert evaluated.candidates[4:] == result.candidates[4:]
    assert "on 30 validation images of stripes" in evaluated.notes[-1]
    assert accuracy.source.checkpoint[:16] in evaluated.notes[-1]
    evaluated.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == evaluated
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["measured_accuracy"] == measured[0]
    repeated = evaluate(tmp_path / "result.json", accuracy, count=1)
    assert repeated.candidates == evaluated.candidates


def test_results_of_before_and_damaged_ones(
    result: SearchResult, accuracy: InheritedAccuracy
) -> None:
    plain = result.to_json()
    assert "measured_accuracy" not in plain
    assert SearchResult.from_json(plain, "it").best.evaluated is None
    document = evaluate(result, accuracy, count=1).to_json()
    for field, value in (
        ("measured_accuracy", 101),
        ("evaluated_images", -1),
        ("accuracy_low", ""),
    ):
        damaged = json.loads(json.dumps(document))
        damaged["candidates"][0][field] = value
        with pytest.raises(ResultError, match=rf"it: 'candidates\[0\].{field}' must be"):
            SearchResult.from_json(damaged, "it")


def test_a_supernet_of_another_space(result: SearchResult, accuracy: InheritedAccuracy) -> None:
    other = replace(result, space=get_space(PROXYLESS).name)
    with pytest.raises(UsageError, match="the supernet is of ofa-mbv3"):
        evaluate(other, accuracy)
