"""Graphs of primitive nodes: what an op, a chain of ops or a network expands to.

A graph knows nothing of ONNX, TFLite or torch; emitters translate it. Feature maps are named and
have a `Shape` (HxWxC); the batch belongs to the emission. Weights use torch's layouts:
convolution (out, in / groups, kernel, kernel), linear (out, in), bias (out,).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lutra.ops.shapes import Shape

NodeOp = Literal[
    "conv2d",
    "depthwise",
    "linear",
    "activation",
    "add",
    "mul",
    "global_pool",
    "max_pool",
    "avg_pool",
]
Activation = Literal["none", "relu", "relu6", "h_swish", "h_sigmoid"]
Bias = Literal["none", "bias", "batchnorm"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "relu6", "h_swish", "h_sigmoid")

Weights = Mapping[str, npt.NDArray[np.float32]]

_WEIGHTED_OPS = ("conv2d", "depthwise", "linear")


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive operation; its output feature map has the node's own name.

    ``bias`` is ``none``, ``bias`` (a learned one) or ``batchnorm`` (a batch normalisation, folded
    into weights and bias when the graph is emitted). ``function`` is set for activations only.
    """

    op: NodeOp
    name: str
    inputs: tuple[str, ...]
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: Bias = "none"
    function: Activation = "none"

    @property
    def has_weights(self) -> bool:
        return self.op in _WEIGHTED_OPS

    @property
    def has_bias(self) -> bool:
        """Whether the emitted node carries a bias vector."""
        return self.bias != "none"


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order with the shape of every feature map.

    ``macs`` counts multiply-accumulates of convolutions and linear layers, as the OFA papers do.
    """

    input: str
    output: str
    shapes: Mapping[str, Shape]
    nodes: tuple[Node, ...]

    @property
    def input_shape(self) -> Shape:
        return self.shapes[self.input]

    @property
    def output_shape(self) -> Shape:
        return self.shapes[self.output]

    def weight_shape(self, node: Node) -> tuple[int, ...]:
        """The shape of a conv2d's, depthwise's or linear's weight array."""
        inputs = self.shapes[node.inputs[0]]
        outputs = self.shapes[node.name]
        if node.op == "linear":
            return (outputs.channels, inputs.elements)
        return (outputs.channels, inputs.channels // node.groups, node.kernel, node.kernel)

    def weight_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every array that a dictionary of weights for this graph holds."""
        for node in self.nodes:
            if node.has_weights:
                shape = self.weight_shape(node)
                yield f"{node.name}.weight", shape
                if node.has_bias:
                    yield f"{node.name}.bias", (shape[0],)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input."""
        return sum(map(self.node_macs, self.nodes))

    def node_macs(self, node: Node) -> int:
        """One node's multiply-accumulates for one input; 0 for what has no weights."""
        if not node.has_weights:
            return 0
        outputs = self.shapes[node.name]
        uses = 1 if node.op == "linear" else outputs.elements // outputs.channels
        return math.prod(self.weight_shape(node)) * uses

    @property
    def params(self) -> int:
        """Learned parameters as published: weights, biases, and two per channel of a batch norm."""
        per_channel = {"none": 0, "bias": 1, "batchnorm": 2}
        total = 0
        for node in self.nodes:
            if node.has_weights:
                shape = self.weight_shape(node)
                total += math.prod(shape) + per_channel[node.bias] * shape[0]
        return total

    @property
    def weight_bytes(self) -> int:
        """Bytes of the emitted fp32 weights, batch norms folded."""
        return 4 * sum(math.prod(shape) for _, shape in self.weight_shapes())

    @property
    def activation_bytes(self) -> int:
        """Bytes of all fp32 feature maps that the graph writes, for one input."""
        return 4 * sum(self.shapes[node.name].elements for node in self.nodes)

    @property
    def border_bytes(self) -> int:
        """Bytes of the fp32 input and output feature maps, for one input."""
        return 4 * (self.input_shape.elements + self.output_shape.elements)


class GraphBuilder:
    """Appends nodes one after another; every method returns the new feature map's name."""

    def __init__(self, input_shape: Shape, input_name: str = "input") -> None:
        self._input = input_name
        self._shapes: dict[str, Shape] = {input_name: input_shape}
        self._nodes: list[Node] = []
        self._prefix = ""

    def scope(self, prefix: str) -> None:
        """Names of the nodes that follow start with ``prefix`` and a dot."""
        self._prefix = f"{prefix}." if prefix else ""

    def shape(self, name: str) -> Shape:
        return self._shapes[name]

    def _append(self, node: Node, shape: Shape) -> str:
        if node.name in self._shapes:
            raise ValueError(f"two nodes are named {node.name!r}")
        self._nodes.append(node)
        self._shapes[node.name] = shape
        return node.name

    def conv(
        self,
        source: str,
        out_channels: int,
        *,
        name: str,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: Bias = "batchnorm",
        activation: Activation = "none",
    ) -> str:
        """A convolution padded by kernel // 2, and its activation."""
        inputs = self._shapes[source]
        depthwise = groups == inputs.channels == out_channels and groups > 1
        node = Node(
            op="depthwise" if depthwise else "conv2d",
            name=self._prefix + name,
            inputs=(source,),
            kernel=kernel,
            stride=stride,
            padding=kernel // 2,
            groups=groups,
            bias=bias,
        )
        result = self._append(node, inputs.strided(stride, out_channels))
        return self.activation(result, activation)

    def linear(self, source: str, out_features: int, *, name: str = "linear") -> str:
        """A fully connected layer with bias over the flattened feature map."""
        node = Node(op="linear", name=self._prefix + name, inputs=(source,), bias="bias")
        return self._append(node, Shape(1, 1, out_features))

    def activation(self, source: str, function: Activation) -> str:
        if function == "none":
            return source
        node = Node(
            op="activation", name=f"{source}.{function}", inputs=(source,), function=function
        )
        return self._append(node, self._shapes[source])

    def add(self, left: str, right: str, *, name: str = "add") -> str:
        node = Node(op="add", name=self._prefix + name, inputs=(left, right))
        return self._append(node, self._shapes[left])

    def mul(self, features: str, gate: str, *, name: str = "mul") -> str:
        """Scale each channel of ``features`` (HxWxC) by ``gate`` (1x1xC)."""
        node = Node(op="mul", name=self._prefix + name, inputs=(features, gate))
        return self._append(node, self._shapes[features])

    def global_pool(self, source: str, *, name: str = "pool") -> str:
        node = Node(op="global_pool", name=self._prefix + name, inputs=(source,))
        return self._append(node, Shape(1, 1, self._shapes[source].channels))

    def max_pool(self, source: str, *, kernel: int, stride: int, name: str = "pool") -> str:
        """Max pooling padded by kernel // 2."""
        node = Node(
            op="max_pool",
            name=self._prefix + name,
            inputs=(source,),
            kernel=kernel,
            stride=stride,
            padding=kernel // 2,
        )
        shape = self._shapes[source]
        return self._append(node, shape.strided(stride, shape.channels))

    def avg_pool(self, source: str, *, stride: int, name: str = "pool") -> str:
        """Average pooling with kernel = stride; a ragged border averages what is there."""
        node = Node(
            op="avg_pool", name=self._prefix + name, inputs=(source,), kernel=stride, stride=stride
        )
        shape = self._shapes[source]
        return self._append(node, shape.strided(stride, shape.channels))

    def build(self, output: str) -> Graph:
        """The finished graph, whose result is the feature map ``output``."""
        return Graph(self._input, output, dict(self._shapes), tuple(self._nodes))
