"""The climb by few genes against all neighbours; scores of rows that break the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lutra.predictors.efficiency.memory import PeakCost
from lutra.search.algorithms import Archive
from lutra.search.algorithms.climbing import climb, climb_from_within, tightened
from lutra.search.constraints import peak_limit
from lutra.search.problem import Problem
from tests.search import synthetic
from tests.search.synthetic import AdditiveAccuracy
from tests.search.tiny import TINY, tiny_problem

RNG = np.random.default_rng(0)
"""For starts that no step brings within the limits; most tests have none."""


def tiny(seed: int) -> Problem:
    return tiny_problem(seed, 0.4)


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_ends_where_no_neighbour_is_better(seed: int) -> None:
    problem = tiny(seed)
    archive = Archive(problem, 10)
    rows, reached = climb(problem, archive, problem.anchor[None, :], RNG)
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
    rows, accuracy = climb(problem, Archive(problem, 10), starts, RNG)
    assert len(np.unique(accuracy)) > 1
    for start, row, reached in zip(starts, rows, accuracy, strict=True):
        alone, alone_reached = climb(problem, Archive(problem, 10), start[None, :], RNG)
        assert np.array_equal(alone[0], row)
        assert alone_reached[0] == reached


def test_changes_of_several_rows_are_the_neighbours_of_each() -> None:
    problem = tiny(0)
    rows = TINY.every_row[:5]
    near, different = problem.moves.changes_of(rows)
    owners, genes, slots = np.nonzero(different)
    assert np.array_equal(near[np.arange(len(near)), genes], problem.moves.slots[genes, slots])
    for place, row in enumerate(rows):
        assert np.array_equal(near[owners == place], problem.moves.neighbours(row))
        assert len(np.unique(near[owners == place], axis=0)) == different[place].sum()


@pytest.mark.parametrize("seed", range(3))
def test_a_climb_from_outside_the_limits_ends_inside(seed: int) -> None:
    problem = tiny(seed)
    rows, accuracy = climb(problem, Archive(problem, 10), TINY.every_row, RNG)
    assert problem.constraints.feasible(rows).all()
    assert np.array_equal(accuracy, problem.accuracy_of(rows))
    for row, reached in zip(rows[::50], accuracy[::50], strict=True):
        near = problem.moves.neighbours(row)
        assert reached >= problem.accuracy_of(near[problem.constraints.feasible(near)]).max()


def test_a_climb_from_where_no_step_leads_inside_begins_at_what_is_repaired() -> None:
    problem = synthetic.problem(1.0)  # only the fastest network of all is within
    largest = problem.moves.choice_counts - 1
    largest[-1] = problem.anchor[-1]
    far = problem.space.canonical(largest[None, :])
    rows, accuracy = climb(problem, Archive(problem, 10), np.concatenate([far, far]), RNG)
    assert (rows == problem.anchor).all()
    assert np.array_equal(accuracy, problem.accuracy_of(rows))


def test_a_climb_from_within_tighter_limits_goes_on_within_the_problem_s() -> None:
    problem = tiny(1)
    tight = tightened(problem)
    assert tight.limits[0].maximum == pytest.approx(0.96 * problem.limits[0].maximum)
    within, _ = climb(tight, Archive(problem, 10), TINY.every_row, RNG)
    rows, accuracy = climb_from_within(problem, tight, Archive(problem, 10), TINY.every_row, RNG)
    assert np.array_equal(accuracy, climb(problem, Archive(problem, 10), within, RNG)[1])
    assert problem.constraints.feasible(rows).all()
    assert (accuracy >= problem.accuracy_of(within)).all()
    assert (accuracy > problem.accuracy_of(within)).any()


def test_limits_that_cannot_be_tightened_stay() -> None:
    problem, none = synthetic.problem(1.01), replace(tiny(0), limits=())
    assert tightened(problem) is problem
    assert tightened(none) is none
    rows, _ = climb_from_within(none, none, Archive(none, 10), TINY.every_row[:3], RNG)
    assert none.accuracy_of(rows) == pytest.approx(none.accuracy_of(TINY.every_row).max())


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_climbs_keep_a_limit_on_a_peak(share: float) -> None:
    sizes = np.random.default_rng(4).integers(1, 9, len(TINY.ops)).astype(np.float64)
    peak = PeakCost("memory", "bytes", TINY, sizes)
    limit = peak_limit(peak, float(np.quantile(peak.of(TINY.every_row), share)))
    problem = Problem(TINY, AdditiveAccuracy(TINY, (8, 16), 0), (limit,), (8, 16))
    rows, accuracy = climb_from_within(
        problem, tightened(problem), Archive(problem, 10), TINY.every_row, RNG
    )
    assert (peak.of(rows) <= limit.maximum).all()
    within = TINY.every_row[problem.constraints.feasible(TINY.every_row)]
    assert accuracy.max() == problem.accuracy_of(within).max()


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
                gained += climb(problem, Archive(problem, 10), row[None, :], RNG)[1][0] > before
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
