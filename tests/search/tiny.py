"""A space so small that all of it can be tried: a chain of convolutions, each of three kernels."""

from __future__ import annotations

from functools import cached_property
from itertools import product

import numpy as np

from lutra.ops import Conv, OpConfig, Shape
from lutra.predictors.efficiency.costs import OpCost
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from lutra.spaces import Lattice, Rows, SearchSpace
from lutra.spaces.base import Gene, Indices
from lutra.spaces.lattice import LatticeBuilder
from tests.search.synthetic import AdditiveAccuracy

KERNELS = (1, 3, 5)
SLOTS = 5


class TinySpace(SearchSpace):
    """Rows: [kernel of each convolution | resolution]; 486 architectures."""

    name = "tiny"
    resolutions = (8, 16)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        return (*[Gene("ks", KERNELS)] * SLOTS, Gene("r", self.resolutions))

    @cached_property
    def ops(self) -> tuple[OpConfig, ...]:
        return tuple(
            Conv(Shape(size, size, 2 + slot), 3 + slot, kernel=kernel)
            for size, slot, kernel in product(self.resolutions, range(SLOTS), KERNELS)
        )

    def op_indices(self, rows: Rows) -> Indices:
        slots = SLOTS * rows[:, -1:].astype(np.int32) + np.arange(SLOTS)
        indices: Indices = (len(KERNELS) * slots + rows[:, :-1]).astype(np.int32)
        return indices

    def canonical(self, rows: Rows) -> Rows:
        return rows.copy()

    def build_lattice(self, resolution: int) -> Lattice:
        r = self.resolutions.index(resolution)
        builder = LatticeBuilder(len(self.genes), ((SLOTS, r),))
        current = 0
        for slot in range(SLOTS):
            following = builder.node()
            for choice in range(len(KERNELS)):
                op = len(KERNELS) * (SLOTS * r + slot) + choice
                builder.edge(current, following, op, ((slot, choice),))
            current = following
        return builder.build(current)

    @property
    def every_row(self) -> Rows:
        """All architectures."""
        return np.array(list(product(*(range(count) for count in self.choice_counts))), np.int16)


TINY = TinySpace()


def tiny_problem(
    seed: int, share: float, resolutions: tuple[int, ...] = TINY.resolutions, limits: int = 1
) -> Problem:
    """Limits each of which the given share of the networks at the resolutions meets."""
    rng = np.random.default_rng(seed)
    rows = TINY.every_row
    rows = rows[np.isin(rows[:, -1], TINY.resolution_indices(resolutions))]
    costs = [OpCost("latency", "ms", TINY, rng.uniform(1, 2, len(TINY.ops))) for _ in range(limits)]
    made = tuple(Limit(cost, float(np.quantile(cost.of(rows), share))) for cost in costs)
    return Problem(TINY, AdditiveAccuracy(TINY, resolutions, seed), made, resolutions)
