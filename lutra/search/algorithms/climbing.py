"""A climb by one or two genes at a time, of which only the promising pairs are scored.

What each one-gene change adds to the accuracy and the costs is known once all are scored, feasible
or not; their sums say which pairs may fit and help: one gene pays what the other one costs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.search.algorithms.base import Archive
from lutra.search.problem import Problem
from lutra.search.rows.moves import Row
from lutra.spaces import Rows

_PAIRS = 10  # scored at each step; in trials 20 and 40 reached no more in the same time


def climb(problem: Problem, archive: Archive, row: Row) -> tuple[Row, float]:
    """From a feasible canonical row to where no one-gene change or promising pair is better.

    The row (genes,) there, and its accuracy in percent.
    """
    accuracy = float(archive.score(row[None, :])[0])
    while True:
        near = problem.moves.neighbours(row)
        near_accuracy = archive.score_any(near)
        costs = problem.constraints.costs_of(near)
        pairs = _pairs(problem, row, near, near_accuracy - accuracy, costs)
        pairs = pairs[problem.constraints.feasible(pairs)]
        single = problem.constraints.feasible(near)
        rows = np.concatenate([near[single], pairs])
        reached = np.concatenate([near_accuracy[single], archive.score(pairs)])
        if not len(rows) or reached.max() <= accuracy:
            return row, accuracy
        best = int(reached.argmax())
        row, accuracy = rows[best], float(reached[best])


def _pairs(
    problem: Problem,
    row: Row,
    near: Rows,
    gains: npt.NDArray[np.float64],
    costs: npt.NDArray[np.float64],
) -> Rows:
    """Two changes of ``row`` at once: those that should gain the most of those that should fit."""
    constraints = problem.constraints
    added = costs - constraints.costs_of(row[None, :])
    first, second = np.triu_indices(len(near), 1)
    fit = (costs[first] + added[second] <= constraints.maxima).all(axis=1)
    fitting = np.flatnonzero(fit)
    losses = -(gains[first[fitting]] + gains[second[fitting]])
    if len(losses) > _PAIRS:  # of thousands only these are put in order
        few = losses <= np.partition(losses, _PAIRS - 1)[_PAIRS - 1]
        fitting, losses = fitting[few], losses[few]
    best = fitting[np.argsort(losses, kind="stable")[:_PAIRS]]
    one, other = near[first[best]], near[second[best]]
    return problem.space.canonical(np.where(one != row, one, other))
