"""Peak activation memory: the one cost that is a maximum over ops, not a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from lutra.errors import UsageError
from lutra.predictors.efficiency.costs import OpCost, amount_text, op_values
from lutra.spaces import Rows, SearchSpace


@dataclass(frozen=True, eq=False)
# docs/decisions.md: A peak is a filter
class PeakCost:
    """The largest of one number per op of the network: ``sizes``, float64 (ops of the space,).

    Between two ops of a chain only one feature map is alive, and shortcuts are within ops, so the
    most bytes that are alive at once in a network are the most of any of its ops.
    """

    name: str
    unit: str
    space: SearchSpace
    sizes: npt.NDArray[np.float64]

    def of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): each architecture's peak."""
        result = np.empty(len(rows))
        for chunk, (sizes,) in op_values(self.space, [self.sizes], rows):
            result[chunk] = sizes.max(axis=1)
        return result

    def within(self, maximum: float) -> OpCost:
        """The same limit as a sum, for what adds up: 0 for an op that fits, else no price.

        So paths of a lattice leave out what does not fit, and are exact.
        """
        prices = np.where(self.sizes <= maximum, 0.0, np.nan)
        return OpCost(self.name, self.unit, self.space, prices)

    def cheapest(self, resolutions: Sequence[int]) -> tuple[float, npt.NDArray[np.int16]]:
        """The exact lowest peak of any architecture at these resolutions, and its row."""
        if not resolutions:
            raise UsageError(f"{self.name}: name at least one resolution")
        results = [self._cheapest_at(resolution) for resolution in resolutions]
        return min(results, key=lambda result: result[0])

    def _cheapest_at(self, resolution: int) -> tuple[float, npt.NDArray[np.int16]]:
        """By halving: the least of the sizes whose ops still make a whole path."""
        lattice = self.space.lattice(resolution)
        sizes = np.unique(self._sizes_at(resolution))
        low, high = 0, len(sizes) - 1
        while low < high:
            middle = (low + high) // 2
            total, _ = lattice.cheapest(self.within(sizes[middle]).prices)
            low, high = (low, middle) if np.isfinite(total) else (middle + 1, high)
        return float(sizes[low]), lattice.cheapest(self.within(sizes[low]).prices)[1]

    def most(self, resolutions: Sequence[int]) -> float:
        """The exact highest peak of any architecture at these resolutions."""
        return max(float(self._sizes_at(resolution).max()) for resolution in resolutions)

    def _sizes_at(self, resolution: int) -> npt.NDArray[np.float64]:
        ops = {edge.op for edge in self.space.lattice(resolution).edges if edge.op >= 0}
        sizes: npt.NDArray[np.float64] = self.sizes[sorted(ops)]
        return sizes

    def text(self, value: float) -> str:
        """A value with its unit: '4.13M bytes'."""
        return amount_text(value, self.unit)


@cache
def memory_cost(space: SearchSpace, element_bytes: int, batch: int = 1) -> PeakCost:
    """Peak activation memory in bytes: the feature maps that are alive at once, and no more.

    What is alive is said by `lutra.ops.liveness`; ``element_bytes`` is what one element takes at
    the target's precision, and ``batch`` how many inputs run together. Not counted are weights, and
    what a runtime adds of its own: padded copies, work space of kernels, gaps of its planner.
    """
    elements = np.array([op.peak_activation_elements for op in space.ops], dtype=np.float64)
    return PeakCost("memory", "bytes", space, elements * element_bytes * batch)
