"""Residual blocks of a graph: a body whose output is added to what it was given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lutra.ops.graph import Graph, Node


@dataclass(frozen=True)
class ResidualBlock:
    """The nodes of ``body`` lead from the map ``skip`` to the node ``add``, which sums both.

    Nothing else reads a map of the body, so that without it the sum is ``skip``.
    """

    skip: str
    body: frozenset[str]
    add: str


def residual_blocks(graph: Graph) -> list[ResidualBlock]:
    """The residual blocks in execution order, those inside others before them."""
    readers: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        for name in node.inputs:
            readers[name].add(node.name)
    blocks = []
    for place, node in enumerate(graph.nodes):
        if node.op != "add" or node.name == graph.output:
            continue
        for skip, end in (node.inputs, node.inputs[::-1]):
            body = _between(skip, end, graph.nodes[:place])
            if body and all(readers[name] <= body | {node.name} for name in body):
                blocks.append(ResidualBlock(skip, body, node.name))
    return blocks


def _between(skip: str, end: str, nodes: Sequence[Node]) -> frozenset[str]:
    """All that leads to ``end``; empty where that does not begin at ``skip`` alone."""
    needed, body = {end}, set()
    for node in reversed(nodes):
        if node.name in needed and node.name != skip:
            body.add(node.name)
            needed.remove(node.name)
            needed.update(node.inputs)
    return frozenset(body) if needed == {skip} else frozenset()


def without(graph: Graph, blocks: Sequence[ResidualBlock]) -> Graph:
    """The graph without these blocks' bodies: what read their sums reads what was added to."""
    gone = {name for block in blocks for name in (*block.body, block.add)}
    sums = {block.add: block.skip for block in blocks}

    def read(name: str) -> str:
        while name in sums:
            name = sums[name]
        return name

    nodes = tuple(
        replace(node, inputs=tuple(map(read, node.inputs)))
        for node in graph.nodes
        if node.name not in gone
    )
    shapes = {name: shape for name, shape in graph.shapes.items() if name not in gone}
    return replace(graph, nodes=nodes, shapes=shapes)
