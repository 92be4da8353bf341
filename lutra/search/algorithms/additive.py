"""The best networks of a problem by a score that adds up on its lattices, proved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.search.algorithms.paths import SLACK, Floats, Paths
from lutra.search.problem import Problem
from lutra.spaces import Lattice, Rows
from lutra.spaces.distinct import best_distinct

# How many labels a node keeps: few first, to raise the floor for those that prove.
_PLACES = (300, 10_000, 200_000)

Scores = Callable[[Lattice], tuple[float, Floats]]
"""What every path of a lattice scores before its first edge, and what its edges (E,) add."""


@dataclass(frozen=True, eq=False)
class BestRows:
    """Distinct rows (N, genes) that meet all limits, and their scores (N,), best first.

    They are proved to be the best, unless better ones may be among what was ``cut`` for want of
    places: those score at most that, minus infinity where there are none.
    """

    rows: Rows
    scores: Floats
    cut: float

    @property
    def proved(self) -> bool:
        """Whether no row that was left out is better than one of these."""
        return self.cut == -np.inf


def scores_of(accuracy: AdditivePredictor) -> Scores:
    """What an additive accuracy model says of a lattice."""
    return lambda lattice: (accuracy.intercept, accuracy.edge_scores(lattice))


def paths_of(problem: Problem, scores: Scores) -> list[Paths]:
    """The problem at each of its resolutions, the costs relative to their limits."""
    ops, limits = len(problem.space.ops), problem.limits
    prices = np.empty((ops, len(limits)))
    for column, limit in enumerate(limits):
        prices[:, column] = limit.cost.prices / limit.maximum
    room = np.array([1.0 - limit.cost.constant / limit.maximum for limit in limits])
    graphs = []
    for resolution in problem.resolutions:
        lattice = problem.space.lattice(resolution)
        start, gains = scores(lattice)
        graphs.append(Paths(lattice, gains, lattice.edge_prices(prices), room, start))
    return graphs


def best_rows(
    problem: Problem,
    graphs: Sequence[Paths],
    count: int,
    places: Sequence[int] = _PLACES,
) -> BestRows:
    """The ``count`` feasible rows with the highest scores; fewer where there are fewer.

    ``graphs`` are the problem's `paths_of`, perhaps under more limits, which rows then meet up to
    rounding. A node keeps so many labels as ``places`` says, one pass after another.
    """
    best = _Best(problem, count, SLACK * max(graph.span for graph in graphs))
    ordered = sorted(graphs, key=lambda graph: -graph.dual[0])
    for labels in places:
        cut = -np.inf
        for graph in ordered:
            if graph.dual[0] > best.floor:
                found = graph.above(best.floor, max(labels, 3 * count))
                best.add(found.rows, found.scores)
                cut = max(cut, found.cut)
        if cut <= best.floor:
            break
    return BestRows(best.rows, best.scores, cut if cut > best.floor else -np.inf)


class _Best:
    """The best feasible rows so far."""

    def __init__(self, problem: Problem, count: int, slack: float) -> None:
        self._problem = problem
        self._count = count
        self.slack = slack
        self.rows: Rows = np.zeros((0, len(problem.space.genes)), dtype=np.int16)
        self.scores = np.zeros(0)

    @property
    def floor(self) -> float:
        """What another row must score to be one of the best."""
        return self.scores[-1] + self.slack if len(self.scores) == self._count else -np.inf

    def add(self, rows: Rows, scores: Floats) -> None:
        """Take in rows that are better, if they are feasible by the costs' own sums."""
        order = np.argsort(-scores, kind="stable")
        for start in range(0, len(order), 4 * self._count):
            chunk = order[start : start + 4 * self._count]
            if not scores[chunk[0]] > self.floor:
                break
            chunk = chunk[self._problem.constraints.feasible(rows[chunk])]
            self._merge(rows[chunk], scores[chunk])

    def _merge(self, rows: Rows, scores: Floats) -> None:
        rows, scores = np.concatenate([self.rows, rows]), np.concatenate([self.scores, scores])
        best = best_distinct(rows, scores, self._count)
        self.rows, self.scores = rows[best], scores[best]


def distant_rows(problem: Problem, graphs: Sequence[Paths], count: int, distance: int) -> BestRows:
    """Like `best_rows`, each row differing in ``distance`` genes or more from all before it.

    Each is the best of those that do.
    """
    found = [best_rows(problem, graphs, 1)]
    while len(found) < count and len(found[-1].rows):
        graphs = [_away_from(graph, found[-1].rows[0], distance) for graph in graphs]
        found.append(best_rows(problem, graphs, 1, _PLACES[:2]))
    rows = np.concatenate([each.rows for each in found])
    scores = np.concatenate([each.scores for each in found])
    return BestRows(rows, scores, max(each.cut for each in found))


def _away_from(graph: Paths, row: npt.NDArray[np.int16], distance: int) -> Paths:
    """The paths whose rows differ from ``row`` in so many genes at least.

    A path that fixes none of the genes differs where the row is not 0; each edge adds what the
    genes that it fixes change of that.
    """
    before = np.count_nonzero(row)
    gains = np.count_nonzero(graph.lattice.edge_genes != row, axis=1) - before
    return graph.with_limit(-gains / distance, (before - distance) / distance)
