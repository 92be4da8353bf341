"""Climbs by one gene at a time or by several, of which only the promising sets are scored.

What each one-gene change adds to the accuracy and the costs is known once all are scored, feasible
or not; their sums say which sets may fit and help: one gene pays what others cost. Several climbs
take their steps together: a predictor takes little longer for many rows than for few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.errors import InfeasibleError, MissingOpError
from lutra.search.algorithms.base import Archive
from lutra.search.problem import Problem
from lutra.search.rows.changes import Changes
from lutra.spaces import Rows

Floats = npt.NDArray[np.float64]

_PAIRS = 10  # scored at each step; in trials 20 and 40 reached no more in the same time
_SETS = (3, 4, 6)  # changes made at once
_TIGHT = 0.96  # of the limits


def climb(
    problem: Problem, archive: Archive, starts: Rows, rng: np.random.Generator
) -> tuple[Rows, Floats]:
    """From canonical rows to feasible ones of which no one-gene change or promising set is better.

    The rows (N, genes) there, and their accuracy (N,) in percent. The first step of a start that
    breaks the limits is to the best of these that does not, whatever it costs; where there is none
    it is repaired.
    """
    rows = _inside(problem, archive, starts, rng)
    accuracy = archive.score(rows)
    climbing = np.arange(len(rows))
    while len(climbing):
        near, gains, owners = _best_steps(problem, archive, rows[climbing], accuracy[climbing])
        better = gains > 0
        climbing = climbing[owners[better]]
        rows[climbing] = near[better]
        accuracy[climbing] = archive.score(near[better])
    return rows, accuracy


def _inside(problem: Problem, archive: Archive, starts: Rows, rng: np.random.Generator) -> Rows:
    """The starts, of which those that break the limits have made a step or are repaired."""
    rows = starts.copy()
    outside = np.flatnonzero(~problem.constraints.feasible(rows))
    if len(outside):
        accuracy = archive.score_any(rows[outside])
        near, _, owners = _best_steps(problem, archive, rows[outside], accuracy)
        lost = np.delete(outside, owners)
        rows[outside[owners]] = near
        rows[lost] = problem.repair(rows[lost], rng)
    return rows


def climb_from_within(
    problem: Problem, tight: Problem, archive: Archive, starts: Rows, rng: np.random.Generator
) -> tuple[Rows, Floats]:
    """`climb` within the limits of ``tight``, and from where that ends within the problem's own.

    What is best within tighter limits often leads to what is best within these, by a way that is
    none where every step must keep to the same limit.
    """
    if tight is not problem:
        starts, _ = climb(tight, archive, starts, rng)
    return climb(problem, archive, starts, rng)


def tightened(problem: Problem) -> Problem:
    """The problem within a share of its limits; itself where it has none or nothing meets those."""
    limits = tuple(limit.scaled(_TIGHT) for limit in problem.limits)
    tight = Problem(problem.space, problem.accuracy, limits, problem.resolutions)
    return tight if limits and can_be_met(tight) else problem


def can_be_met(problem: Problem) -> bool:
    """Whether an architecture that meets the problem's limits is found."""
    try:
        _ = problem.anchor
    except (InfeasibleError, MissingOpError):
        return False
    return True


def _best_steps(
    problem: Problem, archive: Archive, rows: Rows, accuracy: Floats
) -> tuple[Rows, Floats, npt.NDArray[np.int64]]:
    """Of `_steps` that which gains most from each row, where there is any."""
    near, gains, owners = _steps(problem, archive, rows, accuracy)
    order = np.lexsort((-gains, owners))
    owners, first = np.unique(owners[order], return_index=True)
    best = order[first]
    return near[best], gains[best], owners


def _steps(
    problem: Problem, archive: Archive, rows: Rows, accuracy: Floats
) -> tuple[Rows, Floats, npt.NDArray[np.int64]]:
    """Feasible steps from rows of that accuracy: to where, what each gains, and from which row."""
    constraints = problem.constraints
    steps, different = problem.moves.changes_of(rows)
    owners = np.nonzero(different)[0]
    costs, maxima = constraints.costs_of(steps), constraints.maxima
    relative = costs / maxima, constraints.costs_of(rows) / maxima
    gains = archive.score_any(steps) - accuracy[owners]
    changes = Changes.known(rows, problem.moves.slots, different, gains, relative)
    (pairs, of_pairs), (sets, of_sets) = changes.pairs(_PAIRS), changes.sets(_SETS)
    several = problem.space.canonical(np.concatenate([pairs, sets]))
    of_several = np.concatenate([of_pairs, of_sets])
    fit = constraints.feasible(several)
    several, of_several = several[fit], of_several[fit]
    single = (costs <= maxima).all(axis=1)
    return (
        np.concatenate([steps[single], several]),
        np.concatenate([gains[single], archive.score(several) - accuracy[of_several]]),
        np.concatenate([owners[single], of_several]),
    )
