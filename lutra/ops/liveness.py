"""How much of a graph is alive at once: the feature maps that a runtime must hold together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lutra.ops.graph import Graph

_FUSED = ("relu", "relu6")  # every runtime computes these within the layer before


class Step(NamedTuple):
    """One operation: the feature map that it writes, of how many elements, and what it reads.

    One ``in_place`` may write over an input of the same size that nothing reads afterwards.
    """

    output: str
    elements: int
    inputs: tuple[str, ...]
    in_place: bool = False


def peak_elements(source: str, elements: int, steps: Sequence[Step], result: str) -> int:
    """The most elements alive at any step, when ``steps`` run in this order.

    At each step those are its inputs, its output, and what a later step or the caller (``result``)
    still reads, such as a shortcut; what nothing reads stays. ``source`` is the input, of
    ``elements``.
    """
    last_use = {name: place for place, step in enumerate(steps) for name in step.inputs}
    last_use[result] = len(steps)
    alive = {source: elements}
    peak = elements
    for place, step in enumerate(steps):
        ending = [name for name in step.inputs if last_use[name] == place]
        over = step.in_place and any(alive.get(name) == step.elements for name in ending)
        peak = max(peak, sum(alive.values()) + (0 if over else step.elements))
        alive[step.output] = step.elements
        for name in ending:
            alive.pop(name, None)
    return peak


def peak_activation_elements(graph: Graph) -> int:
    """The most feature-map elements that running the graph keeps at once, for one input.

    The graph's input counts while it is read. ReLU and ReLU6 are taken to be fused with what they
    follow, an addition to write over one of its addends; any other node writes a map of its own.
    In a chain of ops only one map is alive between two, so that a network's peak is the largest of
    its ops' own.
    """
    steps: list[Step] = []
    written_to = {graph.input: graph.input}
    for node in graph.nodes:
        inputs = tuple(written_to[name] for name in node.inputs)
        if node.function in _FUSED:
            written_to[node.name] = inputs[0]
            continue
        written_to[node.name] = node.name
        elements = graph.shapes[node.name].elements
        steps.append(Step(node.name, elements, inputs, in_place=node.op == "add"))
    elements = graph.shapes[graph.input].elements
    return peak_elements(graph.input, elements, steps, written_to[graph.output])
