"""A space whose ops are told apart by the resolution of their network.

Small feature maps are alike at neighbouring resolutions, so an op of the catalogue belongs to
several of them. Where an op has a price of its own at each, as in OFA's latency tables of one file
per resolution, it must be one op per resolution.
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from lutra.ops import OpConfig
from lutra.spaces.base import Gene, Indices, Rows, SearchSpace
from lutra.spaces.lattice import NO_OP, Edge, Lattice


# docs/decisions.md: Imported as they are
class SpaceByResolution(SearchSpace):
    """The same architectures in the same rows; ``ops`` has an op once for each resolution.

    ``op_resolutions`` (ops,) says whose each is.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.name = space.name
        self.resolutions = space.resolutions
        self._space = space

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        return self._space.genes

    @cached_property
    def ops(self) -> tuple[OpConfig, ...]:
        return tuple(op for r in self.resolutions for op in self._space.ops_at([r]))

    @cached_property
    def op_resolutions(self) -> tuple[int, ...]:
        """The resolution of the networks that each of ``ops`` is of."""
        return tuple(r for r in self.resolutions for _ in self._space.ops_at([r]))

    @cached_property
    def _own_index(self) -> npt.NDArray[np.int32]:
        """(resolutions, ops of the space and one for empty slots): the index among ``ops``."""
        shape = (len(self.resolutions), len(self._space.ops) + 1)
        own = np.full(shape, NO_OP, dtype=np.int32)
        start = 0
        for place, resolution in enumerate(self.resolutions):
            used = self._space.op_indices_at([resolution])
            own[place, used] = np.arange(start, start + len(used))
            start += len(used)
        return own

    def op_indices(self, rows: Rows) -> Indices:
        own: Indices = self._own_index[rows[:, -1:], self._space.op_indices(rows)]
        return own

    def canonical(self, rows: Rows) -> Rows:
        return self._space.canonical(rows)

    def build_lattice(self, resolution: int) -> Lattice:
        plain = self._space.lattice(resolution)
        own = self._own_index[self.resolutions.index(resolution)]
        edges = (
            Edge(edge.source, edge.target, int(own[edge.op]), edge.genes) for edge in plain.edges
        )
        return Lattice(plain.nodes, tuple(edges), plain.genes)


@cache
def by_resolution(space: SearchSpace) -> SpaceByResolution:
    """The space with its ops told apart by resolution; made once for each space."""
    return space if isinstance(space, SpaceByResolution) else SpaceByResolution(space)
