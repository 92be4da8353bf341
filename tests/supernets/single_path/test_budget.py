"""Budgets are kept: by the pressure while training, and by what is chosen at the end."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lutra.errors import InfeasibleError, UsageError
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.single_path.budget import Budget
from lutra.supernets.single_path.network import SuperkernelNetwork
from lutra.supernets.single_path.pressure import Pressure
from lutra.supernets.single_path.settling import settled
from tests.conftest import SMALL_SPACE

PRICES_MS = np.array([1.0, 2.0, 4.0, 0.0])
START = np.array([2, 2, 2, 0], dtype=np.int16)
LOGITS = [np.array([2.0, 0.1]), np.array([1.0, 0.5]), np.array([-1.0, -2.0])]


def upper_ms(rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    found: np.ndarray = 1.0 + rows @ PRICES_MS  # type: ignore[type-arg]
    return found


@pytest.mark.parametrize(
    ("budget_ms", "expected"),
    [
        (15.0, [2, 2, 2, 0]),  # all fit
        (11.0, [2, 2, 1, 0]),  # the least wanted goes first
        (7.5, [2, 2, 0, 0]),
        (6.5, [1, 2, 0, 0]),
        (3.0, [2, 0, 0, 0]),
        (1.0, [0, 0, 0, 0]),
    ],
)
def test_the_least_wanted_parts_are_left_out(budget_ms: float, expected: list[int]) -> None:
    row = settled(START, LOGITS, upper_ms, budget_ms, START * 0)
    assert row.tolist() == expected
    assert START.tolist() == [2, 2, 2, 0]  # left as it was


def test_what_fits_is_taken_in_the_most_wanted_first() -> None:
    assert settled(START * 0, LOGITS, upper_ms, 4.0, START * 0).tolist() == [1, 1, 0, 0]


def test_where_nothing_left_out_helps_it_is_the_fastest() -> None:
    fastest = np.array([2, 0, 0, 0], dtype=np.int16)

    def strange(rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.where((rows == fastest).all(1), 1.0, 5.0)

    assert settled(START * 0, LOGITS, strange, 2.0, fastest).tolist() == fastest.tolist()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_upper_limit_of_what_is_chosen_keeps_the_budget(
    precisions: dict[str, Path], share: float
) -> None:
    predictor = EfficiencyPredictor(precisions["fp32"])
    network = SuperkernelNetwork(Supernet(SMALL_SPACE))
    low, high = (
        predictor.predict_one(predictor.space.decode(row))
        for _, row in (predictor.latency.cheapest([28]), predictor.latency.dearest([28]))
    )
    assert low.high_ms is not None
    assert high.high_ms is not None
    most_ms = low.high_ms + share * (high.high_ms - low.high_ms)
    budget = Budget(predictor, 28, most_ms)
    found = predictor.predict_one(predictor.space.decode(budget.kept_by(network)))
    assert found.high_ms is not None
    assert 0.95 * most_ms < found.high_ms <= most_ms
    assert budget.predicted_ms is not None
    assert budget.predicted_ms < most_ms
    lower = budget.predicting(0.97 * budget.predicted_ms)
    assert lower.predicted_ms is not None
    fastest_ms = Budget(predictor, 28, low.high_ms).predicted_ms
    assert fastest_ms is not None
    assert lower.predicted_ms == pytest.approx(max(0.97 * budget.predicted_ms, fastest_ms))
    faster = predictor.predict_one(predictor.space.decode(lower.kept_by(network)))
    assert low.latency_ms <= faster.latency_ms <= found.latency_ms


def test_budgets_that_cannot_be(precisions: dict[str, Path]) -> None:
    predictor = EfficiencyPredictor(precisions["fp32"])
    fastest_ms = predictor.latency.cheapest([28])[0]
    with pytest.raises(InfeasibleError, match="of the fastest one the predicted upper limit is"):
        Budget(predictor, 28, fastest_ms)  # its upper limit is above
    with pytest.raises(UsageError, match="above zero"):
        Budget(predictor, 28, -1.0)
    without = Budget(predictor, 28, None)
    network = SuperkernelNetwork(Supernet(SMALL_SPACE))
    largest = network.supernet.largest()
    assert without.predicted_ms is None
    assert predictor.space.decode(without.kept_by(network)) == largest


def test_the_multiplier_follows_the_budget() -> None:
    pressure = Pressure(0.0, 10.0)
    for _ in range(50):
        pressure.advance(20.0, 0.01)
    risen = pressure.multiplier
    assert risen == pytest.approx(50 * 0.01 * 2.0 * np.log(2.0))
    for _ in range(100):
        pressure.advance(5.0, 0.01)
    assert pressure.multiplier == 0.0
    fixed = Pressure(0.3, None)
    fixed.advance(20.0, 0.5)
    runtime_ms = torch.tensor(20.0, dtype=torch.float64)
    assert fixed.of(runtime_ms).item() == pytest.approx(0.3 * np.log(20.0))
    assert Pressure(0.0, 30.0).of(runtime_ms).item() == 0.0
    assert Pressure(0.0, 10.0).of(runtime_ms).item() == pytest.approx(0.25 * np.log(2.0) ** 2)


@pytest.mark.parametrize("trade_off", [-0.1, float("nan"), float("inf")])
def test_trade_offs_that_cannot_be(trade_off: float) -> None:
    with pytest.raises(UsageError, match="must be 0 or more"):
        Pressure(trade_off, 5.0)
    with pytest.raises(UsageError, match="needs what makes networks fast"):
        Pressure(0.0, None)
