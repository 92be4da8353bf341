"""Visits, intervals and when enough is enough."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.base import Sample
from lutra.profiler.statistics import (
    VISIT_QUANTILE,
    interval_rank,
    median_interval,
    process_spread,
    summarise,
    visit_from_sample,
)
from lutra.profiler.stopping import StoppingRule
from lutra.tables import Visit

values = st.lists(st.floats(0.001, 1e4), min_size=1, max_size=40)


def visit(low_ms: float, number: int = 1, process: int = 1, flags: tuple[str, ...] = ()) -> Visit:
    return Visit(number, process, low_ms, low_ms, low_ms, 10, 5, 0.04, 0.0, flags)


@given(values)
def test_interval_holds_the_median_and_lies_in_the_range(numbers: list[float]) -> None:
    low, high = median_interval(numbers)
    assert min(numbers) <= low <= np.median(numbers) <= high <= max(numbers)


@pytest.mark.parametrize(("visits", "half_width"), [(1, 0.15), (2, 0.0375), (5, 0.006), (6, 0.0)])
def test_few_visits_that_agree_are_no_narrow_interval(visits: int, half_width: float) -> None:
    measurement = summarise([visit(2.0, number) for number in range(visits)])
    assert measurement.latency_ms == 2.0
    assert measurement.ci_high_ms == pytest.approx(2.0 * (1.0 + half_width))
    assert measurement.ci_low_ms == pytest.approx(2.0 / (1.0 + half_width))


@given(values)
def test_a_visit_has_the_quantiles_of_numpy(numbers: list[float]) -> None:
    sample = Sample(0, tuple(numbers), 1, 1, 0.01, 0.06, 0.04)
    made = visit_from_sample(sample, 1, 1)
    assert (made.low_ms, made.median_ms) == tuple(np.quantile(numbers, (VISIT_QUANTILE, 0.5)))
    assert made.minimum_ms == min(numbers)


@given(values, st.randoms())
def test_interval_does_not_depend_on_order(numbers: list[float], random: object) -> None:
    shuffled = list(numbers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert median_interval(shuffled) == median_interval(numbers)


@pytest.mark.parametrize(
    ("size", "rank"), [(6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5), (30, 9)]
)
def test_interval_ranks_are_the_textbook_ones(size: int, rank: int) -> None:
    assert median_interval(list(range(size))) == (rank, size - 1 - rank)


@given(st.integers(6, 200), st.sampled_from([0.8, 0.95, 0.99]))
def test_rank_is_the_largest_that_covers(size: int, confidence: float) -> None:
    def coverage(rank: int) -> float:
        return 1.0 - 2.0 * sum(comb(size, below) for below in range(rank + 1)) / 2.0**size

    rank = interval_rank(size, confidence)
    assert rank == 0 or coverage(rank) >= confidence
    assert 2 * (rank + 1) >= size or coverage(rank + 1) < confidence


def test_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    for size in (6, 9, 12, 20):
        draws = random.exponential(size=(4000, size))
        intervals = [median_interval(list(draw)) for draw in draws]
        covered = np.mean([low <= np.log(2) <= high for low, high in intervals])
        assert covered >= 0.94


def test_visit_keeps_the_low_quantile() -> None:
    sample = Sample(0, (1.0, 1.1, 1.2, 1.3, 9.0, 1.05), 3, 1, 0.1, 0.2, 0.15)
    made = visit_from_sample(sample, round_number=2, process=4)
    assert made.low_ms == pytest.approx(1.05)
    assert made.minimum_ms == 1.0
    assert made.median_ms == pytest.approx(1.15)
    assert (made.round, made.process, made.blocks, made.runs_per_block) == (2, 4, 6, 3)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20), st.floats(0.01, 100))
def test_one_burst_does_not_move_a_measurement_out_of_the_others(
    lows: list[float], burst: float
) -> None:
    steady = [visit(low, number) for number, low in enumerate(lows)]
    flagged = visit(max(lows) + burst, 99, flags=("drift",))
    assert summarise([*steady, flagged]) == summarise(steady)


def test_flagged_visits_are_used_when_there_is_nothing_else_and_it_says_so() -> None:
    measurement = summarise([visit(1.0, 1, flags=("drift",)), visit(1.2, 2)])
    assert measurement.flags == ("drift",)
    assert measurement.latency_ms == pytest.approx(1.1)


def test_no_visits_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="no visits"):
        summarise([])


class TestStoppingRule:
    rule = StoppingRule(min_rounds=6, min_processes=2, max_rounds=10, half_width=0.01)

    @staticmethod
    def visits(count: int, spread: float, processes: int = 2) -> list[Visit]:
        return [
            visit(1.0 + spread * (number % 2), number, 1 + number % processes)
            for number in range(count)
        ]

    def test_narrow_and_enough_is_stable(self) -> None:
        assert self.rule.judge(self.visits(6, 0.001)).status == "stable"

    def test_too_few_rounds_is_partial(self) -> None:
        assert self.rule.judge(self.visits(5, 0.0)).status == "partial"

    def test_one_process_is_partial(self) -> None:
        assert self.rule.judge(self.visits(6, 0.0, processes=1)).status == "partial"

    def test_wide_is_partial_then_given_up(self) -> None:
        assert self.rule.judge(self.visits(9, 0.5)).status == "partial"
        assert self.rule.judge(self.visits(10, 0.5)).status == "unstable"

    def test_flagged_visits_do_not_count(self) -> None:
        flagged = [visit(1.0, number, number, ("drift",)) for number in range(6)]
        assert self.rule.judge(flagged).status == "partial"


@pytest.mark.parametrize(
    ("between", "within", "disturbed"),
    [(0.0, 0.01, 0.0), (0.02, 0.0, 0.0), (0.02, 0.01, 0.0), (0.01, 0.004, 0.15)],
)
def test_the_spread_of_processes_is_not_that_of_visits(
    between: float, within: float, disturbed: float
) -> None:
    """Nor that of bursts of other work, in a share of the visits or in whole processes."""
    rng = np.random.default_rng(0)

    def network(bursts: float = 1.0) -> list[Visit]:
        return [
            visit(own * rng.normal(1.0, within) * (1.0 + burst), number, process)
            for process in range(3)
            for own in [3.0 * rng.normal(1.0, between) * (bursts if process else 1.0)]
            for number in range(6)
            for burst in [rng.exponential(0.05) * (rng.random() < disturbed)]
        ]

    networks = [network() for _ in range(400)] + [network(1.5) for _ in range(10)]
    assert process_spread(networks) == pytest.approx(between, rel=0.15, abs=0.002)


def test_one_process_tells_no_spread() -> None:
    assert process_spread([[visit(1.0, 1), visit(1.1, 2)]]) == 0.0
