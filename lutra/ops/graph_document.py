"""A graph as plain data, for files, and back again: nothing in a document is believed unchecked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from lutra.ops.graph import ACTIVATIONS, Bias, Graph, Node, NodeOp
from lutra.ops.shapes import Shape

_LARGEST = 1 << 16  # of a shape's sizes and what a layer is made of
_LARGEST_KERNEL = 1 << 10
_LARGEST_MAP = 1 << 30  # numbers
_SUMS = {"add": 2, "mul": 2}  # nodes of more than one input
_WINDOWS = ("conv2d", "depthwise", "max_pool", "avg_pool")
_MADE = ("conv2d", "linear")  # whose channels are their own to choose
_NAMED_LETTERS = 80


def graph_document(graph: Graph) -> dict[str, Any]:
    """The graph as dictionaries, lists, numbers and text."""
    return {
        "input": graph.input,
        "output": graph.output,
        "shapes": {name: list(shape) for name, shape in graph.shapes.items()},
        "nodes": [{**asdict(node), "inputs": list(node.inputs)} for node in graph.nodes],
    }


def parse_graph(document: object) -> Graph:
    """The graph of a `graph_document`; raises `ValueError` that names what is wrong with it.

    Each node reads feature maps from before it, and each map has the shape that its node makes.
    """
    match document:
        case {
            "input": str(start),
            "output": str(output),
            "shapes": {**given},
            "nodes": [*listed],
        }:
            pass
        case _:
            raise ValueError("its graph is no graph")
    shapes = {start: _shape(given.get(start))}
    nodes = []
    for item in listed:
        node = _node(item)
        if node.name in shapes or any(name not in shapes for name in node.inputs):
            raise _wrong(node, "is there twice, or reads what is not there")
        shape = _shape(given.get(node.name))
        if shape != _made(node, [shapes[name] for name in node.inputs], shape.channels):
            raise _wrong(node, f"does not make {shape}")
        shapes[node.name] = shape
        nodes.append(node)
    if output not in shapes or given.keys() != shapes.keys():
        raise ValueError("its graph has feature maps that no node makes")
    return Graph(start, output, shapes, tuple(nodes))


def _shape(sizes: object) -> Shape:
    match sizes:
        case [int(height), int(width), int(channels)]:
            shape = Shape(height, width, channels)
            if all(map(_is_size, shape)) and shape.elements <= _LARGEST_MAP:
                return shape
    raise ValueError("its graph has a feature map without a shape")


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST


def _node(item: object) -> Node:
    """A node of known kind; what its numbers mean together, `_made` says."""
    match item:
        case {
            "op": str(op),
            "name": str(name),
            "inputs": [*inputs],
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "groups": groups,
            "bias": str(bias),
            "function": str(function),
        }:
            made = Node(op, name, tuple(inputs), kernel, stride, padding, groups, bias, function)  # type: ignore[arg-type]
        case _:
            raise ValueError("its graph has a node that is none")
    known = (
        op in get_args(NodeOp)
        and bias in get_args(Bias)
        and function in ACTIVATIONS
        and all(map(_is_size, (kernel, stride, groups)))
        and kernel <= _LARGEST_KERNEL
        and type(padding) is int
        and (bias == "none" or made.has_weights)
        and len(inputs) == _SUMS.get(op, 1)
        and all(isinstance(each, str) for each in inputs)
    )
    if not known:
        raise _wrong(made, "is of no kind that lutra knows")
    return made


def _made(node: Node, inputs: list[Shape], channels: int) -> Shape | None:
    """The shape that a node makes, ``channels`` of it where that is free; None for a wrong node."""
    first = inputs[0]
    if node.op == "linear":
        return Shape(1, 1, channels) if node.bias == "bias" else None
    if node.op == "global_pool":
        return Shape(1, 1, first.channels)
    if node.op == "mul":
        return first if inputs[1] == Shape(1, 1, first.channels) else None
    if node.op not in _WINDOWS:
        return first if all(other == first for other in inputs) else None
    made = channels if node.op in _MADE else first.channels
    if node.op == "avg_pool":
        plain = node.kernel == node.stride and node.padding == 0
    else:
        plain = node.kernel % 2 == 1 and node.padding == node.kernel // 2
    if not plain:
        return None
    if node.op == "depthwise" and node.groups != made:
        return None
    if first.channels % node.groups or made % node.groups:
        return None
    return first.strided(node.stride, made)


def _wrong(node: Node, what: str) -> ValueError:
    return ValueError(f"its graph's node '{node.name[:_NAMED_LETTERS]}' {what}")
