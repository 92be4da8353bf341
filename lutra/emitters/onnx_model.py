"""A graph as ONNX operators and arrays: plain values, which a precision rewrites.

Feature maps become NCHW, batch norms are already folded into weights and biases. Operators are
those that ``torch.onnx.export`` writes for the same layers (opset 17).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.ops import Graph, Node, Shape, Weights

Array = npt.NDArray[Any]
Attribute = int | float | tuple[int, ...]


class Value(NamedTuple):
    """An input or output of the model; float32 unless said otherwise."""

    name: str
    dimensions: tuple[int, ...]
    dtype: type[np.floating[Any]] = np.float32


@dataclass(frozen=True, slots=True)
class Operator:
    """One node: it reads feature maps, then constants (weights, bounds, scales) in this order."""

    type: str
    name: str
    inputs: tuple[str, ...]
    output: str
    constants: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class OnnxModel:
    """Operators in execution order, and the arrays that their constants name."""

    input: Value
    output: Value
    operators: tuple[Operator, ...]
    arrays: Mapping[str, Array]


def file_names(graph: Graph) -> dict[str, str]:
    """What the file calls the feature maps that it calls otherwise than the graph."""
    return {graph.input: "input", graph.output: "output"}


def translated(graph: Graph, weights: Weights, batch: int) -> OnnxModel:
    """The graph's fp32 model for inputs of ``batch``."""
    names = file_names(graph)
    arrays: dict[str, Array] = {
        name: np.asarray(weights[name], dtype=np.float32) for name, _ in graph.weight_shapes()
    }
    arrays |= {
        f"{node.name}.{bound}": np.array(value, dtype=np.float32)
        for node in graph.nodes
        if node.function == "relu6"
        for bound, value in (("low", 0.0), ("high", 6.0))
    }
    operators = tuple(
        operator
        for node in graph.nodes
        for operator in _OPERATORS[node.op](
            node,
            tuple(names.get(name, name) for name in node.inputs),
            names.get(node.name, node.name),
        )
    )
    return OnnxModel(
        Value("input", _dimensions(graph.input_shape, batch)),
        Value("output", _output_dimensions(graph, batch)),
        operators,
        arrays,
    )


def _dimensions(shape: Shape, batch: int) -> tuple[int, ...]:
    return (batch, shape.channels, shape.height, shape.width)


def _output_dimensions(graph: Graph, batch: int) -> tuple[int, ...]:
    if graph.nodes[-1].op == "linear":
        return (batch, graph.output_shape.channels)
    return _dimensions(graph.output_shape, batch)


def _constants(node: Node) -> tuple[str, ...]:
    weight = (f"{node.name}.weight",)
    return (*weight, f"{node.name}.bias") if node.has_bias else weight


def _window(node: Node) -> dict[str, Attribute]:
    return {
        "kernel_shape": (node.kernel,) * 2,
        "strides": (node.stride,) * 2,
        "pads": (node.padding,) * 4,
    }


def _conv(node: Node, inputs: tuple[str, ...], output: str) -> Iterator[Operator]:
    attributes = {**_window(node), "group": node.groups}
    yield Operator("Conv", node.name, inputs, output, _constants(node), attributes)


def _linear(node: Node, inputs: tuple[str, ...], output: str) -> Iterator[Operator]:
    flat = f"{node.name}.flat"
    yield Operator("Flatten", flat, inputs, flat, attributes={"axis": 1})
    yield Operator("Gemm", node.name, (flat,), output, _constants(node), {"transB": 1})


def _activation(node: Node, inputs: tuple[str, ...], output: str) -> Iterator[Operator]:
    match node.function:
        case "relu":
            yield Operator("Relu", node.name, inputs, output)
        case "relu6":
            bounds = (f"{node.name}.low", f"{node.name}.high")
            yield Operator("Clip", node.name, inputs, output, bounds)
        case "h_swish":
            yield Operator("HardSwish", node.name, inputs, output)
        case "h_sigmoid":
            attributes = {"alpha": 1.0 / 6.0, "beta": 0.5}
            yield Operator("HardSigmoid", node.name, inputs, output, attributes=attributes)
        case _:
            raise ValueError(f"node {node.name}: no activation {node.function!r}")


def _plain(operator: str) -> _Translator:
    def translate(node: Node, inputs: tuple[str, ...], output: str) -> Iterator[Operator]:
        yield Operator(operator, node.name, inputs, output)

    return translate


def _pool(operator: str, *, ceil: bool) -> _Translator:
    def translate(node: Node, inputs: tuple[str, ...], output: str) -> Iterator[Operator]:
        attributes = {**_window(node), "ceil_mode": int(ceil)}
        yield Operator(operator, node.name, inputs, output, attributes=attributes)

    return translate


_Translator = Callable[[Node, tuple[str, ...], str], Iterator[Operator]]
_OPERATORS: dict[str, _Translator] = {
    "conv2d": _conv,
    "depthwise": _conv,
    "linear": _linear,
    "activation": _activation,
    "add": _plain("Add"),
    "mul": _plain("Mul"),
    "global_pool": _plain("GlobalAveragePool"),
    "max_pool": _pool("MaxPool", ceil=False),
    "avg_pool": _pool("AveragePool", ceil=True),
}
OPS = frozenset(_OPERATORS)
