"""Graph to .tflite bytes: fp32, fp16 weights, or full int8; 3 to 5 ms per block.

Written as TensorFlow's converter writes the same layers: NHWC, activations fused into the
operator before them, hard-sigmoid (which has no operator) folded into bias + 3, RELU6 and a
multiplication by 1/6. torch's padding of k // 2 at stride 2 is not TFLite's SAME for even sizes;
there an explicit PAD keeps the arithmetic exact.

int8 follows the TFLite quantisation specification: int8 inputs and outputs, one grid per feature
map, one scale per output channel of the weights, 32-bit biases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lutra.emitters.quantization import Range, activation_ranges
from lutra.emitters.tflite_precision import Float, HalfWeights, Int8, feature_grids
from lutra.ops import Graph, Node, Shape, Weights

_Array = npt.NDArray[np.float32]
_Op = schema.BuiltinOperator
_Fused = schema.ActivationFunctionType

_FUSED = {"none": _Fused.NONE, "relu": _Fused.RELU, "relu6": _Fused.RELU6}
RAMP = (0.0, 6.0)  # of an h_sigmoid, before it is divided by 6
_FUSING_OPS = ("conv2d", "depthwise", "linear", "add", "mul")
# Versions that introduced what we use: (float, int8).
_VERSIONS = {
    _Op.CONV_2D: (1, 3),
    _Op.DEPTHWISE_CONV_2D: (1, 3),
    _Op.FULLY_CONNECTED: (1, 4),
    _Op.ADD: (1, 2),
    _Op.MUL: (1, 2),
    _Op.MEAN: (1, 2),
    _Op.PAD: (1, 2),
    _Op.PADV2: (1, 2),
    _Op.MAX_POOL_2D: (1, 2),
    _Op.AVERAGE_POOL_2D: (1, 2),
    _Op.RELU: (1, 2),
    _Op.RELU6: (1, 2),
    _Op.HARD_SWISH: (1, 1),
}


def emit_tflite(
    graph: Graph,
    weights: Weights,
    *,
    precision: str = "fp32",
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> bytes:
    """The graph as a .tflite file with input ``input`` (N, H, W, C) and output ``output``.

    ``weights`` holds every array that ``graph.weight_shapes()`` names. ``precision`` is ``fp32``,
    ``fp16`` (weights stored in half precision) or ``int8``, for which ``ranges`` gives the least
    and greatest value of each feature map (by default those of random inputs). Raises ValueError
    for another precision, KeyError for a weight or range that is missing.
    """
    match precision:
        case "fp32":
            scheme: Float = Float(batch)
        case "fp16":
            scheme = HalfWeights(batch)
        case "int8":
            known = activation_ranges(graph, weights) if ranges is None else ranges
            scheme = Int8(batch, feature_grids(graph, known))
        case _:
            raise ValueError(f"no precision {precision!r}")
    return _Translation(graph, weights, scheme).to_bytes(metadata or {})


class _Translation:
    """One graph on its way into one file."""

    def __init__(self, graph: Graph, weights: Weights, scheme: Float) -> None:
        self.graph = graph
        self.weights = weights
        self.scheme = scheme
        self._tensors: dict[str, int] = {}
        self._fused = fused_activations(graph)

    def to_bytes(self, metadata: Mapping[str, str]) -> bytes:
        shape = self.scheme.dimensions(self.graph.input_shape)
        self._tensors[self.graph.input] = self.scheme.feature(self.graph.input, shape)
        absorbed = {activation.name for activation in self._fused.values()}
        for node in self.graph.nodes:
            if node.name not in absorbed:
                activation = self._fused.get(node.name)
                result = _EMITTERS[node.op](self, node, activation)
                self._tensors[activation.name if activation else node.name] = result
        inputs, outputs = self._tensors[self.graph.input], self._tensors[self.graph.output]
        return self.scheme.file.to_bytes(inputs, outputs, metadata)

    def tensor(self, name: str) -> int:
        return self._tensors[name]

    def output(self, name: str) -> int:
        return self.scheme.feature(name, self.scheme.dimensions(self.graph.shapes[name]))

    def operator(self, code: int, inputs: list[int], output: int, options: Any = None) -> int:
        version = _VERSIONS[code][int(self.scheme.quantized)]
        return self.scheme.file.operator(code, version, inputs, output, options)

    def constants(
        self, node: Node, weight: _Array, order: tuple[int, ...], activation: Node | None
    ) -> list[int]:
        """Weight and bias of a layer; a layer without a bias gets zeros, as delegates want one."""
        bias = (
            self.weights[f"{node.name}.bias"]
            if node.has_bias
            else np.zeros(len(weight), dtype=np.float32)
        )
        return self.scheme.layer(node, weight, bias + np.float32(raised(activation)), order)


def fused_activations(graph: Graph) -> dict[str, Node]:
    """By node name, the activation that the node's operator applies itself.

    h_sigmoid joins the layer before it too: see `_finish`.
    """
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    by_name = {node.name: node for node in graph.nodes}
    fused = {}
    for node in graph.nodes:
        if node.op != "activation" or node.inputs[0] not in by_name:
            continue
        source = by_name[node.inputs[0]]
        fusible = node.function in _FUSED or (node.function == "h_sigmoid" and source.has_weights)
        if fusible and source.op in _FUSING_OPS and readers[source.name] == 1:
            fused[source.name] = node
    return fused


def _finish(
    translation: _Translation,
    node: Node,
    activation: Node | None,
    code: int,
    inputs: list[int],
    options: Any,
) -> int:
    """The operator with its fused activation; behind a folded h_sigmoid the factor 1/6."""
    if activation is None or activation.function != "h_sigmoid":
        options.fusedActivationFunction = _FUSED[activation.function if activation else "none"]
        result = translation.output(activation.name if activation else node.name)
        return translation.operator(code, inputs, result, options)
    options.fusedActivationFunction = _Fused.RELU6
    shape = translation.scheme.dimensions(translation.graph.shapes[node.name])
    ramp = translation.scheme.ranged(f"{node.name}.ramp", shape, RAMP)
    translation.operator(code, inputs, ramp, options)
    return _sixth(translation, activation, ramp)


def _sixth(translation: _Translation, activation: Node, ramp: int) -> int:
    factor = translation.scheme.scalar(f"{activation.name}.sixth", 1.0 / 6.0)
    result = translation.output(activation.name)
    return translation.operator(_Op.MUL, [ramp, factor], result, schema.MulOptionsT())


def raised(activation: Node | None) -> float:
    """What a folded h_sigmoid, RELU6(x + 3) / 6, adds to the bias before it."""
    return 3.0 if activation is not None and activation.function == "h_sigmoid" else 0.0


def _conv(translation: _Translation, node: Node, activation: Node | None) -> int:
    depthwise = node.op == "depthwise"
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    if depthwise:
        options.depthMultiplier = 1
    options.strideH = options.strideW = node.stride
    options.dilationHFactor = options.dilationWFactor = 1
    features, options.padding = _padded(translation, node, _Op.PAD)
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    weight = translation.weights[f"{node.name}.weight"]
    constants = translation.constants(node, weight, order, activation)
    code = _Op.DEPTHWISE_CONV_2D if depthwise else _Op.CONV_2D
    return _finish(translation, node, activation, code, [features, *constants], options)


def _linear(translation: _Translation, node: Node, activation: Node | None) -> int:
    """torch flattens (C, H, W); (H, W, C) is in memory here, so the weight's columns move."""
    inputs = translation.graph.shapes[node.inputs[0]]
    weight = translation.weights[f"{node.name}.weight"]
    columns = weight.reshape(len(weight), inputs.channels, inputs.height, inputs.width)
    moved = columns.transpose(0, 2, 3, 1).reshape(weight.shape)
    constants = translation.constants(node, moved, (0, 1), activation)
    options = schema.FullyConnectedOptionsT()
    features = translation.tensor(node.inputs[0])
    return _finish(
        translation, node, activation, _Op.FULLY_CONNECTED, [features, *constants], options
    )


def _activation(translation: _Translation, node: Node, _: Node | None) -> int:
    features = translation.tensor(node.inputs[0])
    match node.function:
        case "relu":
            return translation.operator(_Op.RELU, [features], translation.output(node.name))
        case "relu6":
            return translation.operator(_Op.RELU6, [features], translation.output(node.name))
        case "h_swish":
            options = schema.HardSwishOptionsT()
            output = translation.output(node.name)
            return translation.operator(_Op.HARD_SWISH, [features], output, options)
        case "h_sigmoid":
            return _free_h_sigmoid(translation, node, features)
    raise ValueError(f"node {node.name}: no activation {node.function!r}")


def _free_h_sigmoid(translation: _Translation, node: Node, features: int) -> int:
    """An h_sigmoid that no layer before it can take in: ADD 3 with RELU6, then times 1/6."""
    three = translation.scheme.scalar(f"{node.name}.three", 3.0)
    shape = translation.scheme.dimensions(translation.graph.shapes[node.name])
    ramp = translation.scheme.ranged(f"{node.name}.ramp", shape, RAMP)
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _Fused.RELU6
    translation.operator(_Op.ADD, [features, three], ramp, options)
    return _sixth(translation, node, ramp)


def _elementwise(code: int, options_type: type[Any]) -> _Emitter:
    def emit(translation: _Translation, node: Node, activation: Node | None) -> int:
        inputs = [translation.tensor(name) for name in node.inputs]
        return _finish(translation, node, activation, code, inputs, options_type())

    return emit


def _global_pool(translation: _Translation, node: Node, _: Node | None) -> int:
    axes = translation.scheme.file.constant(f"{node.name}.axes", np.array([1, 2], dtype=np.int32))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    features = translation.tensor(node.inputs[0])
    return translation.operator(_Op.MEAN, [features, axes], translation.output(node.name), options)


def _pool(code: int) -> _Emitter:
    def emit(translation: _Translation, node: Node, _: Node | None) -> int:
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = node.kernel
        options.strideH = options.strideW = node.stride
        features, options.padding = _padded(translation, node, _Op.PADV2)
        return translation.operator(code, [features], translation.output(node.name), options)

    return emit


def _padded(translation: _Translation, node: Node, pad_code: int) -> tuple[int, int]:
    """The node's input, padded explicitly where neither SAME nor VALID pads as torch does."""
    features = translation.tensor(node.inputs[0])
    inputs, outputs = (translation.graph.shapes[name] for name in (node.inputs[0], node.name))
    sizes = [(inputs.height, outputs.height), (inputs.width, outputs.width)]
    if all(_same_before(node, *size) == node.padding for size in sizes):
        return features, schema.Padding.SAME
    before = [[0, 0], [node.padding] * 2, [node.padding] * 2, [0, 0]]
    amounts = translation.scheme.file.constant(
        f"{node.name}.amounts", np.array(before, dtype=np.int32)
    )
    extra = 2 * node.padding
    shape = translation.scheme.dimensions(
        Shape(inputs.height + extra, inputs.width + extra, inputs.channels)
    )
    padded = translation.scheme.like(f"{node.name}.padded", shape, node.inputs[0])
    if pad_code == _Op.PAD:
        operands, options = [features, amounts], schema.PadOptionsT()
    else:
        least = translation.scheme.lowest(f"{node.name}.lowest", node.inputs[0])
        operands, options = [features, amounts, least], schema.PadV2OptionsT()
    translation.operator(pad_code, operands, padded, options)
    return padded, schema.Padding.VALID


def _same_before(node: Node, size: int, output: int) -> int:
    """How many rows SAME puts before the first; it puts the odd one behind the last."""
    return max((output - 1) * node.stride + node.kernel - size, 0) // 2


_Emitter = Callable[[_Translation, Node, Node | None], int]
_EMITTERS: dict[str, _Emitter] = {
    "conv2d": _conv,
    "depthwise": _conv,
    "linear": _linear,
    "activation": _activation,
    "add": _elementwise(_Op.ADD, schema.AddOptionsT),
    "mul": _elementwise(_Op.MUL, schema.MulOptionsT),
    "global_pool": _global_pool,
    "max_pool": _pool(_Op.MAX_POOL_2D),
    "avg_pool": _pool(_Op.AVERAGE_POOL_2D),
}
OPS = frozenset(_EMITTERS)
