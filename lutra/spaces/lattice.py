"""A search space at one resolution as a graph whose paths are its distinct architectures.

Every edge adds one op (or none) and fixes the genes that led to it, so what is additive over
ops (a table's latency, MACs, an additive accuracy) has its exact extremes and optima on paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NO_OP = -1


class Edge(NamedTuple):
    """One step to a later node.

    ``op`` is the index of the op that it adds, or `NO_OP`; ``genes`` are the choices that it fixes,
    as (column, choice).
    """

    source: int
    target: int
    op: int
    genes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Lattice:
    """Nodes are numbered in topological order: 0 is the start, ``nodes - 1`` the end."""

    nodes: int
    edges: tuple[Edge, ...]
    genes: int

    def cheapest(self, prices: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.int16]]:
        """The smallest sum of ``prices`` (ops,) over a path, and that architecture's row (genes,).

        Genes that the path does not fix are 0. Unpriced ops (NaN) are not used; the sum is
        infinite when no path avoids them.
        """
        best = [0.0] + [np.inf] * (self.nodes - 1)
        arrived: list[Edge | None] = [None] * self.nodes
        for edge in self.edges:
            price = 0.0 if edge.op == NO_OP else float(prices[edge.op])
            total = best[edge.source] + price
            if total < best[edge.target]:
                best[edge.target] = total
                arrived[edge.target] = edge
        row = np.zeros(self.genes, dtype=np.int16)
        edge_or_none = arrived[self.nodes - 1]
        while edge_or_none is not None:
            for column, choice in edge_or_none.genes:
                row[column] = choice
            edge_or_none = arrived[edge_or_none.source]
        return best[-1], row

    def count(self) -> int:
        """How many distinct architectures there are."""
        paths = [1] + [0] * (self.nodes - 1)
        for edge in self.edges:
            paths[edge.target] += paths[edge.source]
        return paths[-1]


class LatticeBuilder:
    """Collects edges; nodes must be asked for in topological order, edges from earlier to later."""

    def __init__(self, genes: int, fixed: tuple[tuple[int, int], ...] = ()) -> None:
        self._genes = genes
        self._fixed = fixed
        self._nodes = 1
        self._edges: list[Edge] = []

    def node(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def edge(
        self, source: int, target: int, op: int, genes: tuple[tuple[int, int], ...] = ()
    ) -> None:
        self._edges.append(Edge(source, target, op, genes))

    def build(self, end: int) -> Lattice:
        """The lattice, with the genes that hold for all of it put on an edge behind ``end``."""
        last = self.node()
        self.edge(end, last, NO_OP, self._fixed)
        edges = sorted(self._edges, key=lambda edge: edge.source)
        return Lattice(self._nodes, tuple(edges), self._genes)
