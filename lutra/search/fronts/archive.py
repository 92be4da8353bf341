"""The front so far: every architecture that was scored, and those that none of them dominates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lutra.search.algorithms.base import Archive
from lutra.search.fronts.dominance import Values, nondominated, spread_out
from lutra.search.fronts.objectives import Objective
from lutra.search.problem import Problem
from lutra.spaces import Rows


@dataclass(frozen=True, eq=False)
class Front:
    """Feasible architectures of which none dominates another, the most accurate first.

    Canonical ``rows`` (N, genes), their ``accuracy`` in percent (N,) and ``values`` (N, k), the
    smaller the better: accuracy is negated there. ``evaluations`` counts the distinct
    architectures that were scored.
    """

    rows: Rows
    accuracy: npt.NDArray[np.float64]
    values: Values
    evaluations: int

    def __len__(self) -> int:
        return len(self.rows)


class FrontArchive:
    """Scores architectures, each only once, and keeps the front of all of them."""

    def __init__(self, problem: Problem, objectives: Sequence[Objective]) -> None:
        self.scored = Archive(problem, keep=1)
        self._objectives = tuple(objectives)
        self._rows: Rows = np.zeros((0, len(problem.space.genes)), dtype=np.int16)
        self._accuracy = np.zeros(0)
        self._values: Values = np.zeros((0, len(self._objectives)))

    def score(self, rows: Rows) -> Values:
        """(N, genes) distinct feasible canonical rows -> (N, k): their values."""
        accuracy = self.scored.score(rows)
        values = self.values_of(rows, accuracy)
        every = np.concatenate([self._values, values])
        kept = nondominated(every)
        self._values = every[kept]
        self._rows = np.concatenate([self._rows, rows])[kept]
        self._accuracy = np.concatenate([self._accuracy, accuracy])[kept]
        return values

    def values_of(self, rows: Rows, accuracy: npt.NDArray[np.float64]) -> Values:
        """(N, genes) and their accuracy in percent (N,), predicted or supposed -> (N, k)."""
        columns = [-accuracy if item.of is None else item.of(rows) for item in self._objectives]
        return np.stack(columns, axis=1)

    def front(self, most: int) -> Front:
        """At most ``most`` of the front's architectures, spread over it."""
        kept = spread_out(self._values, most)
        kept = kept[np.argsort(-self._accuracy[kept], kind="stable")]
        return Front(
            self._rows[kept], self._accuracy[kept], self._values[kept], self.scored.evaluations
        )
