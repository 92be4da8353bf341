"""What is made of one-gene changes, against all there is where costs and gains add up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.predictors.efficiency.costs import OpCost
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from lutra.search.rows.changes import Changes
from lutra.spaces import Rows, get_space
from tests.search import synthetic
from tests.search.tiny import TINY, tiny_problem

EVERY_ROW = TINY.every_row[TINY.every_row[:, -1] == 0]


def tiny(seed: int, share: float, limits: int = 1) -> Problem:
    return tiny_problem(seed, share, (8,), limits)


def changes_of(problem: Problem, rows: Rows) -> Changes:
    near, different = problem.moves.changes_of(rows)
    gains = problem.accuracy_of(near) - problem.accuracy_of(rows)[np.nonzero(different)[0]]
    relative = problem.constraints.costs_of(near), problem.constraints.costs_of(rows)
    after, before = (costs / problem.constraints.maxima for costs in relative)
    return Changes.known(rows, problem.moves.slots, different, gains, (after, before))


def fit(problem: Problem, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether they keep the limits but for rounding."""
    costs = problem.constraints.costs_of(rows)
    within: npt.NDArray[np.bool_] = (costs <= problem.constraints.maxima * (1 + 1e-8)).all(axis=1)
    return within


tiny_problems = st.builds(tiny, st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.integers(0, 3))
any_rows = st.lists(st.integers(0, len(EVERY_ROW) - 1), min_size=1, max_size=4).map(
    lambda places: EVERY_ROW[places]
)


@given(tiny_problems, any_rows)
def test_pairs_are_the_best_two_genes_that_fit(problem: Problem, rows: Rows) -> None:
    pairs, owners = changes_of(problem, rows).pairs(3)
    for place, row in enumerate(rows):
        others = EVERY_ROW[(row != EVERY_ROW).sum(axis=1) == 2]
        others = others[fit(problem, others)]
        best = np.sort(problem.accuracy_of(others))[::-1][:3]
        found = problem.accuracy_of(pairs[owners == place])
        assert len(found) >= min(3, len(best))
        assert found[: len(best)] == pytest.approx(best)


@given(tiny_problems, any_rows, st.integers(1, 7))
def test_sets_fit_and_are_of_so_many_genes_at_most(problem: Problem, rows: Rows, size: int) -> None:
    sets, owners = changes_of(problem, rows).sets((size,))
    assert fit(problem, sets).all()
    assert len(np.unique(owners)) == len(owners)
    assert ((sets != rows[owners]).sum(axis=1) <= size).all()


@given(st.integers(0, 2**32 - 1), any_rows)
def test_where_all_fits_a_set_is_of_the_genes_that_gain_most(seed: int, rows: Rows) -> None:
    problem = tiny(seed, 1.0)
    sets, owners = changes_of(problem, rows).sets((2,))
    for place, row in enumerate(rows):
        near = EVERY_ROW[(row != EVERY_ROW).sum(axis=1) <= 2]
        (found,) = problem.accuracy_of(sets[owners == place])
        assert found == pytest.approx(problem.accuracy_of(near).max())


def test_a_set_pays_for_what_gains_with_what_loses_little() -> None:
    """Where no single change and no pair that fits gains, three at once may."""
    gained = 0
    for seed in range(20):
        problem = tiny(seed, 0.3)
        rows = EVERY_ROW[problem.constraints.feasible(EVERY_ROW)]
        accuracy = problem.accuracy_of(rows)
        distance = (rows[:, None] != rows).sum(axis=2)
        better = (accuracy > accuracy[:, None] + 1e-9) & (distance <= 2)
        stuck = ~better.any(axis=1)
        sets, owners = changes_of(problem, rows[stuck]).sets((3, 4))
        gained += np.count_nonzero(problem.accuracy_of(sets) > accuracy[stuck][owners] + 1e-9)
    assert gained


def test_resolutions_that_never_fit_leave_room_for_pairs() -> None:
    """Of 25 resolutions most gain much and fit with nothing; inert genes make no pair."""
    space = get_space(synthetic.MBV3)
    problem = synthetic.problem(2.0, resolutions=tuple(space.resolutions))
    rng = np.random.default_rng(0)
    rows = problem.repair(problem.moves.draw(40, rng), rng)
    pairs, owners = changes_of(problem, rows).pairs(10)
    pairs = space.canonical(pairs)
    assert (np.bincount(owners, minlength=len(rows)) == 10).all()
    inside = problem.constraints.feasible(pairs)
    shares = []
    for place in range(12):
        near = problem.moves.within_two(rows[place])
        best = problem.accuracy_of(near[problem.constraints.feasible(near)]).max()
        found = problem.accuracy_of(pairs[(owners == place) & inside]).max(initial=-np.inf)
        before = problem.accuracy_of(rows[place][None, :])[0]
        shares.append((found - before) / (best - before))
    assert np.quantile(shares, 0.25) > 0.99  # prices at another resolution do not quite add up


def test_ops_without_a_price_are_in_no_set() -> None:
    problem = tiny(3, 0.5)
    cost = problem.limits[0].cost
    prices = cost.prices.copy()
    prices[TINY.op_indices(EVERY_ROW)[-1][:2]] = np.nan
    missing = Limit(OpCost("latency", "ms", TINY, prices), problem.limits[0].maximum)
    lacking = Problem(TINY, problem.accuracy, (missing,), (8,))
    rows = EVERY_ROW[lacking.constraints.feasible(EVERY_ROW)]
    changes = changes_of(lacking, rows)
    for made, _ in (changes.pairs(5), changes.sets((3, 4))):
        assert len(made)
        assert fit(lacking, made).all()
