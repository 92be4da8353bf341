"""A search space at one resolution as a graph whose paths are its distinct architectures.

Every edge adds one op (or none) and fixes the genes that led to it, so what is additive over
ops (a table's latency, MACs, an additive accuracy) has its exact extremes and optima on paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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


class Bundle(NamedTuple):
    """All edges between two nodes: ``edges`` are their indices (E,)."""

    source: int
    target: int
    edges: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lattice:
    """Nodes are numbered in topological order: 0 is the start, ``nodes - 1`` the end."""

    nodes: int
    edges: tuple[Edge, ...]
    genes: int

    @cached_property
    def bundles(self) -> tuple[tuple[Bundle, ...], ...]:
        """For each node the edges that lead to it, by the nodes that they come from."""
        joined: list[dict[int, list[int]]] = [{} for _ in range(self.nodes)]
        for index, edge in enumerate(self.edges):
            joined[edge.target].setdefault(edge.source, []).append(index)
        return tuple(
            tuple(Bundle(source, target, np.array(edges)) for source, edges in groups.items())
            for target, groups in enumerate(joined)
        )

    @cached_property
    def sources(self) -> npt.NDArray[np.int64]:
        """(edges,): the node that each edge leaves."""
        return np.array([edge.source for edge in self.edges], dtype=np.int64)

    @cached_property
    def edge_genes(self) -> npt.NDArray[np.int16]:
        """(edges, genes): the choices that each edge fixes, 0 elsewhere.

        The sum over a path's edges is its architecture's row.
        """
        fixed = np.zeros((len(self.edges), self.genes), dtype=np.int16)
        for index, edge in enumerate(self.edges):
            for column, choice in edge.genes:
                fixed[index, column] = choice
        return fixed

    def edge_prices(self, prices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(ops, ...) -> (edges, ...): what each edge adds; 0 where it adds no op."""
        nothing = np.zeros((1, *prices.shape[1:]))  # found by the index -1, which is `NO_OP`
        every: npt.NDArray[np.float64] = np.concatenate([prices, nothing])
        return every[[edge.op for edge in self.edges]]

    def best_ways_on(self, gains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(edges, M) -> (nodes, M): from each node to the end, the largest sum of each gain."""
        best = np.full((self.nodes, gains.shape[1]), -np.inf)
        best[-1] = 0.0
        for source, target, edges in self._backwards:
            np.maximum(best[source], best[target] + gains[edges].max(axis=0), out=best[source])
        return best

    @cached_property
    def _backwards(self) -> list[Bundle]:
        every = (bundle for bundles in self.bundles for bundle in bundles)
        return sorted(every, key=lambda bundle: -bundle.source)

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
