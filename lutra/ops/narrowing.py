"""Graphs with fewer channels: which maps must have as many as which, and the graph that results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lutra.ops.graph import Graph, Node
from lutra.ops.shapes import Shape

_MIXING = ("conv2d", "linear")  # each output is of all inputs; other nodes keep channels apart


def shared_channels(graph: Graph) -> dict[str, str]:
    """For each feature map the first one that has the very same channels.

    Followed through adds, gates, pooling, activations and depthwise convolutions.
    """
    of = {graph.input: graph.input}
    for node in graph.nodes:
        if node.op in _MIXING:
            of[node.name] = node.name
            continue
        first, *others = (of[name] for name in node.inputs)
        of[node.name] = first
        for other in others:
            of = {name: first if group == other else group for name, group in of.items()}
    return of


def channel_groups(graph: Graph) -> dict[str, int | None]:
    """The group of each feature map's channels, by its name; None where their number is fixed.

    Fixed are those of the input, of the output, beside grouped convolutions that are not depthwise,
    and of maps that are flattened with more than one pixel. Groups are numbered as they appear.
    """
    of = shared_channels(graph)
    fixed = {of[graph.input], of[graph.output]}
    for node in graph.nodes:
        pixels = graph.shapes[node.inputs[0]]._replace(channels=1).elements
        if node.op == "linear" and pixels > 1:
            fixed.add(of[node.inputs[0]])
        elif node.op == "conv2d" and node.groups > 1:
            fixed |= {of[node.inputs[0]], of[node.name]}
    numbers: dict[str, int] = {}
    return {
        name: None if group in fixed else numbers.setdefault(group, len(numbers))
        for name, group in of.items()
    }


def narrowed(graph: Graph, channels: Mapping[int, int]) -> Graph:
    """The graph with so many channels in each of its `channel_groups`."""
    groups = channel_groups(graph)

    def shape(name: str) -> Shape:
        group, own = groups[name], graph.shapes[name]
        return own if group is None else own._replace(channels=channels[group])

    shapes = {name: shape(name) for name in graph.shapes}
    nodes = tuple(_regrouped(node, shapes[node.name].channels) for node in graph.nodes)
    return replace(graph, shapes=shapes, nodes=nodes)


def _regrouped(node: Node, channels: int) -> Node:
    return replace(node, groups=channels) if node.op == "depthwise" else node
