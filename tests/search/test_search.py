"""The search command's library side: resolutions, limits, results."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lutra.errors import AccuracyError, InfeasibleError, ResultError, UsageError
from lutra.predictors.accuracy import AccuracyPredictor, load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.find import find_networks, half_way_budget_ms
from lutra.search.result import SearchResult
from lutra.spaces import Rows
from lutra.tables import LatencyTable
from lutra.tables.profiled import note_profiled
from tests.conftest import SPACE


class Flat(AccuracyPredictor):
    """Knows nothing, at resolutions of its choice."""

    name = "flat"
    space = SPACE
    provenance = "made up"

    def __init__(self, resolutions: tuple[int, ...]) -> None:
        self.resolutions = resolutions
        self.quality = {}

    def predict(self, rows: Rows) -> npt.NDArray[Any]:
        return np.full(len(rows), 70.0)


@pytest.fixture
def predictor(table_path: Path) -> EfficiencyPredictor:
    with LatencyTable.open(table_path) as table:
        return EfficiencyPredictor(table)


@pytest.fixture
def result(table_path: Path) -> SearchResult:
    return find_networks(table_path, max_latency_ms=20.0, algorithm="random")


def test_candidates_are_feasible_distinct_and_best_first(result: SearchResult) -> None:
    assert all(candidate.predicted_ms <= 20.0 for candidate in result.candidates)
    assert len({candidate.architecture for candidate in result.candidates}) == 10
    accuracies = [candidate.accuracy for candidate in result.candidates]
    assert accuracies == sorted(accuracies, reverse=True)


def test_predictions_in_the_result_are_the_predictor_s(
    result: SearchResult, predictor: EfficiencyPredictor
) -> None:
    for candidate in result.candidates:
        assert predictor.predict_one(candidate.architecture).latency_ms == candidate.predicted_ms


def test_half_way_is_between_the_extremes(predictor: EfficiencyPredictor) -> None:
    fastest = predictor.latency.cheapest([224])[0]
    slowest = predictor.latency.dearest([224])[0]
    assert half_way_budget_ms(predictor, load_accuracy(space=SPACE)) == (fastest + slowest) / 2


def test_a_limit_at_the_fastest_subnet_finds_it(
    predictor: EfficiencyPredictor, table_path: Path
) -> None:
    fastest, row = predictor.latency.cheapest([224])
    result = find_networks(table_path, accuracy=Flat((224,)), max_latency_ms=fastest * (1 + 1e-9))
    assert result.best.architecture == predictor.space.decode(row)


def test_a_limit_below_it_names_it(predictor: EfficiencyPredictor, table_path: Path) -> None:
    fastest, _ = predictor.latency.cheapest([224])
    with pytest.raises(InfeasibleError, match=re.escape(f"{fastest:.6g} ms")):
        find_networks(table_path, accuracy=Flat((224,)), max_latency_ms=0.99 * fastest)


def test_no_common_resolution(table_path: Path) -> None:
    with pytest.raises(AccuracyError, match="resolutions 128, 160, the table holds 224"):
        find_networks(table_path, accuracy=Flat((128, 160)), max_latency_ms=20.0)


def test_unknown_hyperparameters(table_path: Path) -> None:
    with pytest.raises(UsageError, match="does not take"):
        find_networks(
            table_path, accuracy=Flat((224,)), max_latency_ms=20.0, hyperparameters={"luck": 7}
        )


def test_results_round_trip(result: SearchResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.write(path)
    assert SearchResult.read(path) == result
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"] or len(
        list(tmp_path.glob("*.json"))
    ) == 1


def test_a_result_that_cannot_be_written_leaves_nothing(
    result: SearchResult, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match="cannot write"):
        result.write(tmp_path / "no" / "result.json")


def test_notes_say_when_resolutions_were_narrowed(table_path: Path) -> None:
    with LatencyTable.open(table_path, write=True) as table:
        note_profiled(table, "fake", SPACE, [160])
        result = find_networks(table, max_latency_ms=30.0, algorithm="random")
    assert "searched at 224 only" in result.notes[0]
    assert result.best.architecture.r == 224
