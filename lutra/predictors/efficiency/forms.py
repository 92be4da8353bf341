"""The latency of networks: one additive cost, or the larger of two.

Each form is additive, so a limit on the larger is exactly a limit on each, and searches stay as
exact as with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.composition import Floats
from lutra.predictors.efficiency.costs import OpCost, total_costs
from lutra.predictors.efficiency.larger import least_larger
from lutra.spaces import Rows, SearchSpace

Row = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Latency:
    """The largest of one or two ``forms``, costs in ms of the same space.

    Two forms know the same ops: each is NaN where the other is. Raises `ValueError` otherwise.
    """

    forms: tuple[OpCost, ...]

    def __post_init__(self) -> None:
        unknown = [np.isnan(form.prices) for form in self.forms]
        if len(self.forms) not in (1, 2) or not np.array_equal(unknown[0], unknown[-1]):
            raise ValueError("a latency has one form, or two that know the same ops")

    @property
    def space(self) -> SearchSpace:
        """Whose architectures it speaks of."""
        return self.forms[0].space

    def of(self, rows: Rows) -> Floats:
        """(N, genes) -> (N,) ms; NaN when one of an architecture's ops is unknown."""
        largest: Floats = total_costs(self.forms, rows).max(axis=1)
        return largest

    def ruling(self, rows: Rows) -> npt.NDArray[np.int64]:
        """(N, genes) -> (N,): which of the forms is the larger."""
        largest: npt.NDArray[np.int64] = total_costs(self.forms, rows).argmax(axis=1)
        return largest

    def cheapest(self, resolutions: Sequence[int]) -> tuple[float, Row]:
        """The fastest architecture found at these resolutions: its ms and its row.

        Exact with one form. With two it is the best of the exact optima of their weighted sums,
        and `bound` says how much faster another could be. Raises `MissingOpError` when no
        architecture has a known latency.
        """
        if len(self.forms) == 1:
            return self.forms[0].cheapest(resolutions)
        rows = np.concatenate([rows for _, rows in self._optima(resolutions)])
        latencies = self.of(rows)
        fastest = int(latencies.argmin())
        return float(latencies[fastest]), rows[fastest]

    def bound(self, resolutions: Sequence[int]) -> float:
        """A lower bound on every architecture's latency, in ms; raises like `cheapest`."""
        if len(self.forms) == 1:
            return self.forms[0].cheapest(resolutions)[0]
        return min(bound for bound, _ in self._optima(resolutions))

    def dearest(self, resolutions: Sequence[int]) -> tuple[float, Row]:
        """The exact slowest architecture's ms and its row; raises like `cheapest`."""
        return max((form.dearest(resolutions) for form in self.forms), key=lambda result: result[0])

    def _optima(self, resolutions: Sequence[int]) -> list[tuple[float, Rows]]:
        self.forms[0].cheapest(resolutions)  # raises where no architecture has a price
        first, second = self.forms
        return [least_larger(first, second, resolution) for resolution in resolutions]
