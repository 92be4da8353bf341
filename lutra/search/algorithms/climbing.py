"""Climbs by one or two genes at a time, of which only the promising pairs are scored.

What each one-gene change adds to the accuracy and the costs is known once all are scored, feasible
or not; their sums say which pairs may fit and help: one gene pays what the other one costs. Several
climbs take their steps together: a predictor takes little longer for many rows than for few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.search.algorithms.base import Archive
from lutra.search.problem import Problem
from lutra.search.rows.moves import Row
from lutra.spaces import Rows

Floats = npt.NDArray[np.float64]

_PAIRS = 10  # scored at each step; in trials 20 and 40 reached no more in the same time


def climb(problem: Problem, archive: Archive, starts: Rows) -> tuple[Rows, Floats]:
    """From feasible canonical rows to where no one-gene change or promising pair is better.

    The rows (N, genes) there, and their accuracy (N,) in percent.
    """
    rows, accuracy = starts.copy(), archive.score(starts)
    climbing = np.arange(len(rows))
    while len(climbing):
        near, gains, owners = _steps(problem, archive, rows[climbing], accuracy[climbing])
        order = np.lexsort((-gains, owners))
        owners, first = np.unique(owners[order], return_index=True)
        best = order[first]
        better = gains[best] > 0
        climbing, best = climbing[owners[better]], best[better]
        rows[climbing] = near[best]
        accuracy[climbing] = archive.score(near[best])
    return rows, accuracy


def _steps(
    problem: Problem, archive: Archive, rows: Rows, accuracy: Floats
) -> tuple[Rows, Floats, npt.NDArray[np.int64]]:
    """Feasible steps from rows of that accuracy: to where, what each gains, and from which row."""
    constraints = problem.constraints
    near, owners = problem.moves.neighbours_of(rows)
    gains = archive.score_any(near) - accuracy[owners]
    costs, before = constraints.costs_of(near), constraints.costs_of(rows)
    ends = np.searchsorted(owners, np.arange(len(rows) + 1))
    several = []
    for place, row in enumerate(rows):
        own = slice(ends[place], ends[place + 1])
        room = constraints.maxima - before[place]
        several.append(_pairs(row, near[own], gains[own], costs[own] - before[place], room))
    pairs = problem.space.canonical(np.concatenate(several))
    owners_of_pairs = np.repeat(np.arange(len(rows)), [len(each) for each in several])
    fit = constraints.feasible(pairs)
    pairs, owners_of_pairs = pairs[fit], owners_of_pairs[fit]
    single = (costs <= constraints.maxima).all(axis=1)
    return (
        np.concatenate([near[single], pairs]),
        np.concatenate([gains[single], archive.score(pairs) - accuracy[owners_of_pairs]]),
        np.concatenate([owners[single], owners_of_pairs]),
    )


def _pairs(row: Row, near: Rows, gains: Floats, added: Floats, room: Floats) -> Rows:
    """Two changes of ``row`` at once: those that should gain the most of those that should fit."""
    fit = (added[:, None, :] + added <= room).all(axis=2)
    losses = np.where(np.tri(len(near), dtype=bool) | ~fit, np.inf, -(gains[:, None] + gains))
    losses = losses.ravel()
    places = np.arange(len(losses))
    if len(losses) > _PAIRS:  # of thousands only these are put in order
        places = np.flatnonzero(losses <= np.partition(losses, _PAIRS - 1)[_PAIRS - 1])
    places = places[np.isfinite(losses[places])]
    best = places[np.argsort(losses[places], kind="stable")[:_PAIRS]]
    one, other = (near[each] for each in np.divmod(best, len(near)))
    return np.where(one != row, one, other)
