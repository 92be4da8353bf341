"""The primitive nodes that ops are made of, and how alike they are to a processor.

An op is a few kernels behind one another, and the same kernel, an expansion of 40 to 240 channels
on 28x28 pixels say, is part of many ops. So what one op took tells of others by their nodes. How
much is said by what kernels of runtimes care for: the operation with its window and stride, the
sizes on a logarithmic scale, and how channels fill the processor's vectors (a count of 120 may cost
more than one of 160: `Alikeness.alignment`).
"""

# docs/decisions.md: Ops that were not measured

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lutra.ops import OpConfig
from lutra.ops.graph import Graph, Node

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]

_WIDEST_VECTOR = 4  # log2 of the channels that a vector holds at most, 16


@dataclass(frozen=True, eq=False)
class Alikeness:
    """How far nodes lie apart, each (nodes, nodes).

    ``same_operation`` is 1 where they do the same (so that one tells of the other at all), else 0;
    ``other_window`` 1 where kernel or stride differ; ``squared_distance`` is that of the logarithms
    (base 2) of channels and height; ``alignment`` how many powers of two, up to 16, they differ by
    in what divides their channels.
    """

    same_operation: Floats
    other_window: Floats
    squared_distance: Floats
    alignment: Floats

    def take(self, nodes: npt.NDArray[np.int64]) -> Alikeness:
        """That of some nodes."""
        chosen = np.ix_(nodes, nodes)
        return Alikeness(*(values[chosen] for values in vars(self).values()))


@dataclass(frozen=True, eq=False)
class OpNodes:
    """Ops by their nodes: ``counts`` (ops, nodes), sparse, and ``quantities`` (nodes, 3), what each
    kind of node computes and moves: MACs, bytes in fp32, and one kernel.
    """

    counts: csr_array
    quantities: Floats
    alikeness: Alikeness

    @classmethod
    def of(cls, ops: Sequence[OpConfig]) -> OpNodes:
        """Take ops apart."""
        from scipy.sparse import csr_array

        numbers: dict[tuple[Hashable, ...], int] = {}
        quantities: list[tuple[float, float, float]] = []
        entries: list[tuple[int, int]] = []
        for row, op in enumerate(ops):
            graph = op.graph
            for node in graph.nodes:
                key = _key(graph, node)
                if key not in numbers:
                    numbers[key] = len(numbers)
                    quantities.append(_quantities(graph, node))
                entries.append((row, numbers[key]))
        rows, columns = np.array(entries).T
        counts = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(ops), len(numbers)))
        return cls(counts, np.array(quantities), _alikeness(list(numbers)))


def _key(graph: Graph, node: Node) -> tuple[Hashable, ...]:
    source, target = graph.shapes[node.inputs[0]], graph.shapes[node.name]
    pointwise = node.op == "conv2d" and node.kernel == 1
    groups = 0 if node.op == "depthwise" else node.groups  # as many as channels there
    operation, window = (node.op, node.function, pointwise, groups), (node.kernel, node.stride)
    return operation, window, source.channels, target.channels, target.height


def _quantities(graph: Graph, node: Node) -> tuple[float, float, float]:
    weights = math.prod(graph.weight_shape(node)) if node.has_weights else 0
    features = sum(graph.shapes[name].elements for name in (*node.inputs, node.name))
    return float(graph.node_macs(node)), 4.0 * (features + weights), 1.0


def _alikeness(keys: Sequence[tuple[Hashable, ...]]) -> Alikeness:
    operations, windows, *sizes = zip(*keys, strict=True)
    numbers = np.array(sizes, dtype=np.float64).T  # input and output channels, height
    logarithms = np.log2(numbers)
    alignments = np.array([[_alignment(int(c)) for c in row] for row in numbers[:, :2]])
    return Alikeness(
        same_operation=_equal(operations),
        other_window=1.0 - _equal(windows),
        squared_distance=_distances(logarithms, 2),
        alignment=_distances(alignments, 1) / 2.0,
    )


def _equal(values: Sequence[Hashable]) -> Floats:
    known = {value: number for number, value in enumerate(dict.fromkeys(values))}
    numbers = np.array([known[value] for value in values])
    equal: Floats = (numbers[:, None] == numbers).astype(np.float64)
    return equal


def _distances(points: Floats, power: int) -> Floats:
    total = np.zeros((len(points), len(points)))
    for column in points.T:
        total += np.abs(column[:, None] - column) ** power
    return total


def _alignment(channels: int) -> float:
    """The power of two that divides the channels, as far as vectors are wide."""
    divides = (channels & -channels).bit_length() - 1
    return float(min(divides, _WIDEST_VECTOR))
