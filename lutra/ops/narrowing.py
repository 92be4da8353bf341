"""Graphs with fewer channels: which maps must have as many as which, and the graph that results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lutra.ops.graph import Graph, Node
from lutra.ops.shapes import Shape

_FIXED = "fixed"  # stands for all channels whose number nobody may change


def channel_groups(graph: Graph) -> dict[str, int | None]:
    """The group of each feature map's channels, by its name; None where they are fixed.

    Maps that are added, scaled by one another, or made channel by channel have one group. Fixed are
    those of the input, of the output and beside grouped convolutions that are not depthwise, and
    of maps that are flattened with more than one pixel. Groups are numbered as they appear.
    """
    parent = {_FIXED: _FIXED, **{name: name for name in graph.shapes}}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    def join(*names: str) -> None:
        first = root(names[0])
        for name in names[1:]:
            parent[root(name)] = first

    join(_FIXED, graph.input, graph.output)
    for node in graph.nodes:
        pixels = graph.shapes[node.inputs[0]]._replace(channels=1).elements
        if node.op == "linear":
            if pixels > 1:
                join(_FIXED, node.inputs[0])
        elif node.op != "conv2d":
            join(node.inputs[0], node.name, *node.inputs[1:])
        elif node.groups > 1:
            join(_FIXED, node.inputs[0], node.name)
    fixed = root(_FIXED)
    numbers: dict[str, int] = {}
    return {
        name: None if root(name) == fixed else numbers.setdefault(root(name), len(numbers))
        for name in graph.shapes
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
