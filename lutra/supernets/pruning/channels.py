"""Which channels of a network are kept or go together, as its graph has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lutra.ops import Graph, Node
from lutra.ops.narrowing import shared_channels


@dataclass(frozen=True)
class ChannelGroups:
    """The feature maps of a graph by the channels that they share.

    ``of`` names each feature map's group, ``filters`` for each group the nodes whose filters make
    its channels, in execution order. Filters that only make gates are none of them: the larger a
    gate's weights, the more it may close.
    """

    of: Mapping[str, str]
    filters: Mapping[str, Sequence[Node]]


def channel_groups(graph: Graph) -> ChannelGroups:
    """The groups of a graph's channels."""
    of = shared_channels(graph)
    gates = _gates(graph)
    filters: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.has_weights and node.name not in gates:
            filters[of[node.name]].append(node)
    return ChannelGroups(of, filters)


def _gates(graph: Graph) -> set[str]:
    """The feature maps between the node that makes a gate and where it is one."""
    gates: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op == "mul":
            gates.add(node.inputs[1])
        elif node.name in gates and not node.has_weights:
            gates.update(node.inputs)
    return gates
