from __future__ import annotations

import re
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import AccuracyError, InfeasibleError, MissingOpError, UsageError
from lutra.predictors.efficiency.costs import OpCost, macs_cost
from lutra.predictors.efficiency.memory import memory_cost
from lutra.search.constraints import Limit, peak_limit
from lutra.search.problem import Problem
from lutra.spaces import get_space
from tests.search.synthetic import MBV3, RESOLUTIONS, AdditiveAccuracy, latency, problem


def with_limits(*limits: Limit, resolutions: tuple[int, ...] = RESOLUTIONS) -> Problem:
    space = get_space(MBV3)
    return Problem(space, AdditiveAccuracy(space, RESOLUTIONS), limits, resolutions)


cached_problem = cache(problem)


@pytest.mark.parametrize("maximum", [0.0, -1.0, np.nan, np.inf])
def test_impossible_limits_are_refused(maximum: float) -> None:
    with pytest.raises(UsageError, match="positive number of ms"):
        Limit(latency(get_space(MBV3)), maximum)


def test_a_share_of_a_limit_is_a_limit_on_the_same() -> None:
    cost, peak = latency(get_space(MBV3)), memory_cost(get_space(MBV3), 4)
    assert Limit(cost, 8.0).scaled(0.5) == Limit(cost, 4.0)
    scaled, made = peak_limit(peak, 4e6).scaled(0.25), peak_limit(peak, 1e6)
    assert (scaled.maximum, scaled.peak) == (1e6, peak)
    assert np.array_equal(scaled.cost.prices, made.cost.prices, equal_nan=True)


def test_an_infeasible_limit_is_answered_at_once() -> None:
    cost = latency(get_space(MBV3))
    fastest, row = cost.cheapest(RESOLUTIONS)
    started = time.process_time()
    with pytest.raises(InfeasibleError) as caught:
        _ = with_limits(Limit(cost, 0.5 * fastest)).anchor
    assert time.process_time() - started < 2.0
    message = str(caught.value)
    assert f"the fastest subnet of {MBV3} takes {fastest:.6g} ms at resolution 160" in message
    assert f"{0.5 * fastest:.6g} ms, is below it" in message
    assert cost.space.decode(row).r == 160


def test_a_limit_of_exactly_the_fastest_is_met() -> None:
    made = problem(1.0)
    assert made.constraints.feasible(made.anchor[None, :]).all()


def test_two_limits_are_met_jointly() -> None:
    fast, small = latency(get_space(MBV3)), macs_cost(get_space(MBV3))
    made = with_limits(
        Limit(fast, 1.3 * fast.cheapest(RESOLUTIONS)[0]),
        Limit(small, 1.3 * small.cheapest(RESOLUTIONS)[0]),
    )
    rows = made.repair(made.moves.draw(200, np.random.default_rng(0)), np.random.default_rng(1))
    assert made.constraints.feasible(np.vstack([rows, made.anchor])).all()


def test_limits_that_exclude_each_other_are_named() -> None:
    fast = latency(get_space(MBV3))
    opposite = OpCost("energy", "mJ", fast.space, fast.prices.max() - fast.prices)
    limits = [Limit(c, 1.001 * c.cheapest(RESOLUTIONS)[0]) for c in (fast, opposite)]
    with pytest.raises(InfeasibleError, match=r"latency <= .* and energy <= .* together") as caught:
        _ = with_limits(*limits).anchor
    stated = re.search(r"limits that are ([0-9.e+]+) % higher they are met", str(caught.value))
    assert stated
    higher = 1.0 + 1.01 * float(stated[1]) / 100.0  # of three digits
    raised = with_limits(*(Limit(limit.cost, higher * limit.maximum) for limit in limits))
    assert raised.constraints.feasible(raised.anchor[None, :]).all()


def test_unknown_prices_are_infeasible() -> None:
    cost = latency(get_space(MBV3))
    prices = cost.prices.copy()
    prices[np.random.default_rng(0).random(len(prices)) < 0.1] = np.nan
    used = cost.space.ops_at([160])[0]
    prices[cost.space.ops.index(used)] = cost.prices[cost.space.ops.index(used)]
    for op in np.unique(cost.space.op_indices(cost.cheapest([160])[1][None, :])):
        prices[op] = cost.prices[op]
    partial = OpCost("latency", "ms", cost.space, prices)
    made = with_limits(Limit(partial, 1e6))
    rows = made.moves.draw(300, np.random.default_rng(0))
    assert np.array_equal(made.constraints.feasible(rows), np.isfinite(partial.of(rows)))
    assert not made.constraints.feasible(rows).all()
    assert made.constraints.feasible(made.repair(rows, np.random.default_rng(0))).all()
    nothing = OpCost("latency", "ms", cost.space, np.full(len(prices), np.nan))
    with pytest.raises(MissingOpError, match="for example"):
        _ = with_limits(Limit(nothing, 10.0)).anchor


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    factor=st.sampled_from([1.01, 1.2, 3.0]),
    name=st.sampled_from([MBV3, "ofa-resnet50d"]),
)
def test_repair_always_ends_with_feasible_canonical_rows(
    seed: int, factor: float, name: str
) -> None:
    made = cached_problem(factor, name)
    rng = np.random.default_rng(seed)
    drawn = made.moves.draw(100, rng)
    repaired = made.repair(drawn, rng)
    assert made.constraints.feasible(repaired).all()
    assert np.array_equal(repaired, made.space.canonical(repaired))
    kept = made.constraints.feasible(drawn)
    assert np.array_equal(repaired[kept], made.space.canonical(drawn[kept]))


def test_foreign_resolutions_are_infeasible() -> None:
    made = problem(3.0)
    row = made.anchor.copy()
    row[-1] = made.space.resolutions.index(128)
    assert not made.constraints.feasible(row[None, :])[0]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_a_changed_gene_has_another_allowed_value(seed: int) -> None:
    made = cached_problem(3.0)
    rng = np.random.default_rng(seed)
    rows = made.moves.draw(50, rng)
    columns = rng.integers(rows.shape[1], size=50)
    changed = made.moves.draw_changes(rows, columns, rng)
    assert np.array_equal((changed != rows).nonzero()[1], columns)
    assert {made.space.resolutions[i] for i in changed[:, -1]} <= set(RESOLUTIONS)


def test_neighbours_differ_and_stay_in_the_problem() -> None:
    made = problem(3.0)
    row = made.anchor
    neighbours = made.moves.neighbours(row)
    assert (neighbours != row).any(axis=1).all()
    assert {made.space.resolutions[i] for i in neighbours[:, -1]} == set(RESOLUTIONS)


def test_parts_must_speak_of_the_same_thing() -> None:
    space, other = get_space(MBV3), get_space("ofa-resnet50d")
    accuracy = AdditiveAccuracy(space, RESOLUTIONS)
    with pytest.raises(UsageError, match="is of space 'ofa-resnet50d'"):
        Problem(space, accuracy, (Limit(latency(other), 10.0),), RESOLUTIONS)
    with pytest.raises(AccuracyError, match=f"is of space '{MBV3}', not of 'ofa-resnet50d'"):
        Problem(other, accuracy, (), RESOLUTIONS)
    with pytest.raises(AccuracyError, match="does not cover resolution 128"):
        with_limits(resolutions=(128, 160))
    with pytest.raises(UsageError, match="at least one resolution"):
        with_limits(resolutions=())
    with pytest.raises(UsageError, match="resolution 130"):
        with_limits(resolutions=(130,))


def test_no_limit_is_a_problem_too() -> None:
    made = with_limits()
    assert made.constraints.feasible(made.anchor[None, :]).all()
