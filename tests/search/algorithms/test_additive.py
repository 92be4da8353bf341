"""Exact search of additive problems, against trying every architecture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import UsageError
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.efficiency.costs import OpCost, macs_cost
from lutra.search.algorithms.additive import best_rows, distant_rows, paths_of, scores_of
from lutra.search.algorithms.front import exact_front, undominated
from lutra.search.algorithms.paths import Paths
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from tests.search.additive import (
    additive_problem,
    every_small_row,
    feasible_small_rows,
    small_problem,
)

SEEDS = st.integers(0, 10_000)


def graphs_of(made: Problem) -> list[Paths]:
    assert isinstance(made.accuracy, AdditivePredictor)
    return paths_of(made, scores_of(made.accuracy))


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 3), st.sampled_from([1, 2, 10, 300]))
def test_the_best_are_those_of_all_architectures(seed: int, limits: int, count: int) -> None:
    made = small_problem(seed, limits)
    _, accuracy = feasible_small_rows(made)
    best = best_rows(made, graphs_of(made), count)
    assert best.proved
    assert made.constraints.feasible(best.rows).all()
    assert len(np.unique(best.rows, axis=0)) == len(best.rows) == min(count, len(accuracy))
    np.testing.assert_allclose(made.accuracy.predict(best.rows), accuracy[:count], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 7))
def test_distant_rows_are_the_best_of_those_far_enough(seed: int, distance: int) -> None:
    made = small_problem(seed)
    rows, accuracy = feasible_small_rows(made)
    best = distant_rows(made, graphs_of(made), 4, distance)
    found = made.accuracy.predict(best.rows)
    assert best.proved
    for number, row in enumerate(best.rows):
        # Each of those before it leaves fewer rows to choose from.
        far = (rows[:, None, :] != best.rows[:number]).sum(axis=2) >= distance
        left = accuracy[far.all(axis=1)]
        assert found[number] == pytest.approx(left.max(), abs=1e-6)
        assert ((row != best.rows[:number]).sum(axis=1) >= distance).all()
    far = (rows[:, None, :] != best.rows).sum(axis=2) >= distance
    assert len(best.rows) == 4 or not far.all(axis=1).any()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([1, 2]))
def test_the_front_is_that_of_all_architectures(seed: int, limits: int) -> None:
    made = small_problem(seed, limits)
    rows, accuracy = feasible_small_rows(made)
    shares = made.constraints.excess(rows)
    front = exact_front(made)
    assert (np.diff(front.shares) > 0).all()
    assert (np.diff(front.accuracy) > 0).all()
    assert np.array_equal(front.accuracy, made.accuracy.predict(front.rows))
    # What each share allows, up to the rounding of sums.
    reached = np.array([accuracy[shares <= share * (1 + 1e-12)].max() for share in front.shares])
    np.testing.assert_allclose(front.accuracy, reached, atol=1e-9)
    # And nothing is missing: every network is reached by the front at its share.
    place = np.searchsorted(front.shares, shares * (1 + 1e-12), "right")
    best = np.concatenate([[-np.inf], front.accuracy])[place]
    assert (best >= accuracy - 1e-9).all()


@given(SEEDS, st.sampled_from([1, 2]), st.integers(1, 2000))
@settings(max_examples=40, deadline=None)
def test_undominated_of_points_with_ties(seed: int, costs: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 12, (count, 1 + costs)).astype(float)
    kept = points[undominated(points[:, 0], points[:, 1:])]
    signed = np.unique(points * ([1] + [-1] * costs), axis=0)
    beaten = [((signed >= point).all(axis=1)).sum() > 1 for point in signed]
    expected = signed[~np.array(beaten)] * ([1] + [-1] * costs)
    assert sorted(map(tuple, kept)) == sorted(map(tuple, expected))


def test_unknown_prices_are_avoided() -> None:
    made = small_problem(3)
    (limit,) = made.limits
    prices = limit.cost.prices.copy()
    best = best_rows(made, graphs_of(made), 1).rows
    taken = made.space.op_indices(best)[0]
    elastic = {edge.op for edge in made.space.lattice(160).edges if len(edge.genes) == 2}
    prices[[op for op in taken if op in elastic][:1]] = np.nan
    cost = OpCost("latency", "ms", made.space, prices, limit.cost.constant)
    other = Problem(made.space, made.accuracy, (Limit(cost, limit.maximum),), made.resolutions)
    accuracy = feasible_small_rows(other)[1]
    found = best_rows(other, graphs_of(other), 5)
    assert made.accuracy.predict(found.rows) == pytest.approx(accuracy[:5], abs=1e-6)


def test_equal_scores_do_not_explode() -> None:
    """Nothing but the resolution matters: any architectures at the highest will do."""
    made = additive_problem(1000.0)
    assert isinstance(made.accuracy, AdditivePredictor)
    made.accuracy.coefficients[:-1] = 0.0
    best = best_rows(made, graphs_of(made), 10)
    assert best.proved
    assert len(best.rows) == 10
    assert set(best.rows[:, -1]) == {len(made.space.resolutions) - 1}


def test_a_limit_between_two_sums_that_differ_by_rounding() -> None:
    """Rows are accepted by the sums that everybody else sees."""
    made = small_problem(11)
    (limit,) = made.limits
    for row in feasible_small_rows(made)[0][:20]:
        at = Limit(limit.cost, float(limit.cost.of(row[None, :])[0]))
        exact = Problem(made.space, made.accuracy, (at,), made.resolutions)
        _, accuracy = feasible_small_rows(exact)
        best = best_rows(exact, graphs_of(exact), 1)
        assert exact.accuracy.predict(best.rows) == pytest.approx(accuracy[:1], abs=1e-6)


@pytest.mark.parametrize("name", ["ofa-mbv3-w1.0", "ofa-proxyless-w1.3", "ofa-resnet50d"])
def test_optimum_and_front_of_a_whole_space_agree(name: str) -> None:
    resolutions = (160, 192, 224)
    made = additive_problem(2.0, name, resolutions)
    front = exact_front(made)
    for place in (len(front.rows) // 3, -1):
        (limit,) = made.limits
        at = Limit(limit.cost, limit.maximum * float(front.shares[place]) * (1 + 1e-12))
        exact = Problem(made.space, made.accuracy, (at,), resolutions)
        best = best_rows(exact, graphs_of(exact), 3)
        assert best.proved
        assert made.accuracy.predict(best.rows)[0] == pytest.approx(front.accuracy[place], abs=1e-6)


def test_two_limits_of_a_whole_space() -> None:
    made = additive_problem(2.0, resolutions=(160, 192, 224))
    macs = macs_cost(made.space)
    both = (*made.limits, Limit(macs, 1.9 * macs.cheapest(made.resolutions)[0]))
    two = Problem(made.space, made.accuracy, both, made.resolutions)
    best = best_rows(two, graphs_of(two), 10)
    assert best.proved
    assert len(best.rows) == 10
    front = exact_front(two)
    assert front.accuracy[-1] == pytest.approx(two.accuracy.predict(best.rows)[0], abs=1e-6)


def test_a_front_needs_an_additive_accuracy_and_few_limits() -> None:
    made = small_problem(0, 3)
    with pytest.raises(UsageError, match="one limit or two, not 3"):
        exact_front(made)


def test_small_space_is_small() -> None:
    assert len(every_small_row()) == 3 * (9 + 81) ** 2
