"""The larger of two additive costs: limits are exact, extremes are attained or bounded."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import InfeasibleError, MissingOpError
from lutra.predictors.efficiency.composition import kernel_counts
from lutra.predictors.efficiency.costs import OpCost
from lutra.predictors.efficiency.forms import Latency
from lutra.search.constraints import latency_limits
from lutra.search.problem import Problem
from lutra.spaces import SearchSpace, get_space
from tests.search.synthetic import MBV3, RESOLUTIONS, AdditiveAccuracy, latency

space = get_space(MBV3)
factors = st.floats(0.05, 1.0)


@cache
def forms(factor: float, seed: int = 0, of: SearchSpace = space) -> Latency:
    """Device and launch; at a factor of 0.3 each rules about half of random networks."""
    device = latency(of, seed)
    noise = np.random.default_rng(seed + 1).uniform(0.8, 1.2, len(of.ops))
    prices = factor * kernel_counts(of.ops) * noise
    return Latency(
        (
            OpCost("device latency", "ms", of, device.prices, 0.5),
            OpCost("launch latency", "ms", of, prices, 0.3),
        )
    )


def rows(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return space.sample(count, np.random.default_rng(seed), list(RESOLUTIONS))


@given(factors, st.integers(0, 20))
def test_it_is_the_larger(factor: float, seed: int) -> None:
    both, drawn = forms(factor), rows(50, seed)
    device, launch = (form.of(drawn) for form in both.forms)
    assert np.array_equal(both.of(drawn), np.maximum(device, launch))
    assert np.array_equal(both.ruling(drawn), (launch > device).astype(int))


@given(factors, st.integers(0, 20), st.floats(0.5, 2.0))
def test_its_limits_are_exact(factor: float, seed: int, share: float) -> None:
    both, drawn = forms(factor), rows(50, seed)
    maximum = share * float(np.median(both.of(drawn)))
    accuracy = AdditiveAccuracy(space, RESOLUTIONS)
    problem = Problem(space, accuracy, latency_limits(both, maximum), RESOLUTIONS)
    assert np.array_equal(problem.constraints.feasible(drawn), both.of(drawn) <= maximum)


@given(factors, st.integers(0, 5))
def test_the_fastest_is_attained_and_none_is_below_the_bound(factor: float, seed: int) -> None:
    both = forms(factor, seed)
    fastest, row = both.cheapest(RESOLUTIONS)
    assert both.of(row[None, :])[0] == fastest
    bound = both.bound(RESOLUTIONS)
    assert bound <= fastest * (1 + 1e-12)
    assert fastest <= 1.05 * bound
    near = np.concatenate([rows(500), _around(row)])
    assert (both.of(near) >= bound * (1 - 1e-12)).all()


def _around(
    row: np.ndarray[tuple[int, ...], np.dtype[np.int16]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    problem = Problem(space, AdditiveAccuracy(space, RESOLUTIONS), (), RESOLUTIONS)
    return problem.moves.neighbours(space.canonical(row[None, :])[0])


@given(factors)
def test_the_slowest_is_exact(factor: float) -> None:
    both = forms(factor)
    slowest, row = both.dearest(RESOLUTIONS)
    assert both.of(row[None, :])[0] == pytest.approx(slowest)
    assert slowest == max(form.dearest(RESOLUTIONS)[0] for form in both.forms)
    assert (both.of(rows(500)) <= slowest * (1 + 1e-12)).all()


def test_one_form_is_itself() -> None:
    cost = latency(space)
    alone = Latency((cost,))
    assert alone.cheapest(RESOLUTIONS)[0] == cost.cheapest(RESOLUTIONS)[0]
    assert alone.bound(RESOLUTIONS) == cost.cheapest(RESOLUTIONS)[0]
    assert alone.dearest(RESOLUTIONS)[0] == cost.dearest(RESOLUTIONS)[0]
    assert np.array_equal(alone.of(rows(20)), cost.of(rows(20)))


def test_a_limit_below_a_form_s_least_names_the_form() -> None:
    both = forms(1.0)
    launch = both.forms[1]
    least = launch.cheapest(RESOLUTIONS)[0]
    problem = Problem(
        space, AdditiveAccuracy(space, RESOLUTIONS), latency_limits(both, 0.99 * least), RESOLUTIONS
    )
    with pytest.raises(InfeasibleError, match=r"subnet of .* with the least launch latency takes"):
        _ = problem.anchor


def test_a_limit_at_the_fastest_is_met() -> None:
    both = forms(0.1)
    limits = latency_limits(both, both.cheapest(RESOLUTIONS)[0] * (1 + 1e-9))
    problem = Problem(space, AdditiveAccuracy(space, RESOLUTIONS), limits, RESOLUTIONS)
    assert problem.constraints.feasible(problem.anchor[None, :]).all()


def test_forms_of_different_units_are_refused() -> None:
    cost = latency(space)
    prices = cost.prices.copy()
    prices[3] = np.nan
    with pytest.raises(ValueError, match="same ops"):
        Latency((cost, OpCost("launch latency", "ms", space, prices)))


def test_resolutions_without_a_price_do_not_take_part() -> None:
    both = forms(0.3)
    known = {op.key for op in space.ops_at([192])}
    unknown = np.array([op.key not in known for op in space.ops])
    partial = Latency(
        tuple(
            OpCost(f.name, "ms", space, np.where(unknown, np.nan, f.prices), f.constant)
            for f in both.forms
        )
    )
    assert partial.cheapest(RESOLUTIONS)[0] == both.cheapest((192,))[0]
    assert partial.bound(RESOLUTIONS) == both.bound((192,))
    assert partial.dearest(RESOLUTIONS)[0] == pytest.approx(both.dearest((192,))[0])
    with pytest.raises(MissingOpError):
        partial.cheapest((224,))
