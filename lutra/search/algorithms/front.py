"""The whole front of an additive accuracy over a budget: the best network for every share of it.

Labels as in `paths`, here dropped where another one at the same node scores as much and costs no
more: what is left at the end is the front (Hansen, "Bicriterion path problems", 1980).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import UsageError
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.search.algorithms.additive import paths_of, scores_of
from lutra.search.algorithms.paths import Floats, Paths
from lutra.search.problem import Problem
from lutra.spaces import Rows

_CHUNK = 512


class Front(NamedTuple):
    """Rows (N, genes) from cheap to dear: ``shares`` (N,) of the limits, ``accuracy`` (N,) in %.

    A network's share is the largest of its costs relative to their limits. No network with at most
    the share of one of them is more accurate.
    """

    rows: Rows
    shares: Floats
    accuracy: Floats


def exact_front(problem: Problem) -> Front:
    """The front of a problem with one or two limits (a latency of two forms has two).

    Proved, up to the rounding of sums: where costs or scores are equal but for that, one of them
    is there. Raises `UsageError` for more limits and for an accuracy predictor that is not
    additive.
    """
    if not isinstance(problem.accuracy, AdditivePredictor):
        raise UsageError(f"{problem.accuracy.name} is not additive: its front cannot be proved")
    if len(problem.limits) not in (1, 2):
        raise UsageError(f"a front is along one limit or two, not {len(problem.limits)}")
    graphs = paths_of(problem, scores_of(problem.accuracy))
    rows = np.concatenate([_undominated_paths(graph) for graph in graphs])
    rows = rows[problem.constraints.feasible(rows)]
    shares = problem.constraints.excess(rows)
    accuracy = problem.accuracy_of(rows)
    order = undominated(accuracy, shares[:, None])
    return Front(rows[order], shares[order], accuracy[order])


def _undominated_paths(graph: Paths) -> Rows:
    labels = {0: graph.start_label}
    for target in range(1, graph.lattice.nodes):
        coming = graph.coming(labels, target)
        coming = coming.at(np.flatnonzero(graph.fit(coming, target)))
        labels[target] = coming.at(undominated(coming.scores, coming.costs))
    return graph.rows(labels)


def undominated(scores: Floats, costs: Floats) -> npt.NDArray[np.int64]:
    """Where the (N,) scores are not reached at (N, 1 or 2) costs as low, in order of the first.

    Of equals one is kept.
    """
    order = np.lexsort((-scores, *costs.T[::-1]))
    if costs.shape[1] == 1:
        rising: npt.NDArray[np.int64] = order[_rises(scores[order])]
        return rising
    kept = [order[:0]]
    steps = np.zeros((0, 2))  # (second cost, highest score at or below it) of those kept
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        chunk = chunk[~_below(steps, scores[chunk], costs[chunk, 1])]
        dear, good = costs[chunk, 1], scores[chunk]
        beaten = np.triu((dear[:, None] <= dear) & (good[:, None] >= good), 1).any(axis=0)
        kept.append(chunk[~beaten])
        steps = np.concatenate([steps, np.stack([dear, good], axis=1)[~beaten]])
        steps = steps[np.lexsort((-steps[:, 1], steps[:, 0]))]
        steps = steps[_rises(steps[:, 1])]
    return np.concatenate(kept)


def _rises(scores: Floats) -> npt.NDArray[np.bool_]:
    """(N,): whether a score is higher than all before it."""
    before = np.concatenate([[-np.inf], np.maximum.accumulate(scores)[:-1]])
    higher: npt.NDArray[np.bool_] = scores > before
    return higher


def _below(steps: Floats, scores: Floats, costs: Floats) -> npt.NDArray[np.bool_]:
    """(N,): whether the steps reach a score at a cost."""
    reached = np.concatenate([[-np.inf], steps[:, 1]])
    below: npt.NDArray[np.bool_] = reached[np.searchsorted(steps[:, 0], costs, "right")] >= scores
    return below
