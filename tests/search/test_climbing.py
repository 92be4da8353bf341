"""The climb by one or two genes against all neighbours; scores of rows that break the limits."""

from __future__ import annotations

import numpy as np
import pytest

from lutra.predictors.efficiency.costs import OpCost
from lutra.search.algorithms import Archive
from lutra.search.algorithms.climbing import climb
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from tests.search.synthetic import AdditiveAccuracy
from tests.search.tiny import TINY


def tiny(seed: int, share: float = 0.4) -> Problem:
    """A limit that the given share of the tiny space's networks meets."""
    cost = OpCost("latency", "ms", TINY, np.random.default_rng(seed).uniform(1, 2, len(TINY.ops)))
    limit = Limit(cost, float(np.quantile(cost.of(TINY.every_row), share)))
    return Problem(TINY, AdditiveAccuracy(TINY, (8, 16), seed), (limit,), (8, 16))


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_ends_where_no_neighbour_is_better(seed: int) -> None:
    problem = tiny(seed)
    archive = Archive(problem, 10)
    rows, reached = climb(problem, archive, problem.anchor[None, :])
    row, accuracy = rows[0], reached[0]
    near = problem.moves.neighbours(row)
    assert problem.constraints.feasible(row[None, :]).all()
    assert accuracy == problem.accuracy_of(row[None, :])[0]
    assert accuracy > problem.accuracy_of(problem.anchor[None, :])[0]
    assert accuracy >= problem.accuracy_of(near[problem.constraints.feasible(near)]).max()
    assert archive.best().accuracy[0] >= accuracy


@pytest.mark.parametrize("seed", range(3))
def test_climbs_together_reach_what_each_reaches_alone(seed: int) -> None:
    problem = tiny(seed)
    starts = TINY.every_row[problem.constraints.feasible(TINY.every_row)][::7]
    rows, accuracy = climb(problem, Archive(problem, 10), starts)
    assert len(np.unique(accuracy)) > 1
    for start, row, reached in zip(starts, rows, accuracy, strict=True):
        alone, alone_reached = climb(problem, Archive(problem, 10), start[None, :])
        assert np.array_equal(alone[0], row)
        assert alone_reached[0] == reached


def test_neighbours_of_several_rows_are_those_of_each() -> None:
    problem = tiny(0)
    rows = TINY.every_row[:5]
    near, owners = problem.moves.neighbours_of(rows)
    for place, row in enumerate(rows):
        assert np.array_equal(near[owners == place], problem.moves.neighbours(row))


def test_a_climb_lets_one_gene_pay_for_another() -> None:
    """Somewhere all better neighbours break the limit, and a pair of changes does not."""
    gained = 0
    for seed in range(5):
        problem = tiny(seed)
        rows = TINY.every_row[problem.constraints.feasible(TINY.every_row)]
        for row in rows[:: len(rows) // 20]:
            near = problem.moves.neighbours(row)
            best = problem.accuracy_of(near[problem.constraints.feasible(near)]).max()
            before = problem.accuracy_of(row[None, :])[0]
            if best <= before:
                gained += climb(problem, Archive(problem, 10), row[None, :])[1][0] > before
    assert gained


def test_rows_that_break_the_limits_are_scored_once_and_never_kept() -> None:
    problem = tiny(0)
    accuracy = problem.accuracy
    assert isinstance(accuracy, AdditiveAccuracy)
    archive, rows = Archive(problem, 1000), TINY.every_row
    assert np.array_equal(archive.score_any(rows), accuracy.gain.of(rows))
    assert np.array_equal(archive.score_any(rows[::-1]), accuracy.gain.of(rows[::-1]))
    assert len(accuracy.scored) == archive.evaluations == len(rows)
    kept = archive.best().rows
    assert len(kept) == problem.constraints.feasible(rows).sum() < len(rows)
    assert problem.constraints.feasible(kept).all()
