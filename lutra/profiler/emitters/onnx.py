"""Graph to ONNX bytes, fp32, by ``onnx.helper``: about a millisecond per block.

Feature maps become NCHW, batch norms are already folded into weights and biases. Operators are
those that ``torch.onnx.export`` writes for the same layers (opset 17).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from lutra.ops import Graph, Node, Shape, Weights

OPSET = 17
IR_VERSION = 8


def emit_onnx(
    graph: Graph, weights: Weights, *, batch: int = 1, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The graph as a serialised ONNX model with input ``input`` and output ``output``.

    ``weights`` holds every array that ``graph.weight_shapes()`` names. ``metadata`` lands in the
    model's metadata properties.
    """
    names = {graph.input: "input", graph.output: "output"}
    nodes = [item for node in graph.nodes for item in _emit(graph, node, names)]
    onnx_graph = helper.make_graph(
        nodes,
        "lutra",
        [_value("input", graph.input_shape, batch)],
        [_output_value(graph, batch)],
        initializer=[_tensor(name, weights[name]) for name, _ in graph.weight_shapes()],
    )
    model = helper.make_model(
        onnx_graph,
        producer_name="lutra",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    if metadata:
        helper.set_model_props(model, dict(metadata))
    return bytes(model.SerializeToString())


def _value(name: str, shape: Shape, batch: int) -> onnx.ValueInfoProto:
    dimensions = [batch, shape.channels, shape.height, shape.width]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions)


def _output_value(graph: Graph, batch: int) -> onnx.ValueInfoProto:
    if graph.nodes[-1].op == "linear":
        dimensions = [batch, graph.output_shape.channels]
        return helper.make_tensor_value_info("output", TensorProto.FLOAT, dimensions)
    return _value("output", graph.output_shape, batch)


def _tensor(name: str, array: npt.NDArray[np.float32]) -> onnx.TensorProto:
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return helper.make_tensor(name, TensorProto.FLOAT, array.shape, data, raw=True)


def _emit(graph: Graph, node: Node, names: Mapping[str, str]) -> Iterator[onnx.NodeProto]:
    inputs = [names.get(name, name) for name in node.inputs]
    yield from _EMITTERS[node.op](graph, node, inputs, names.get(node.name, node.name))


def _weighted_inputs(node: Node, inputs: list[str]) -> list[str]:
    tail = [f"{node.name}.bias"] if node.has_bias else []
    return [*inputs, f"{node.name}.weight", *tail]


def _conv(graph: Graph, node: Node, inputs: list[str], output: str) -> Iterator[onnx.NodeProto]:
    yield helper.make_node(
        "Conv",
        _weighted_inputs(node, inputs),
        [output],
        name=node.name,
        kernel_shape=[node.kernel] * 2,
        strides=[node.stride] * 2,
        pads=[node.padding] * 4,
        group=node.groups,
    )


def _linear(graph: Graph, node: Node, inputs: list[str], output: str) -> Iterator[onnx.NodeProto]:
    flat = f"{node.name}.flat"
    yield helper.make_node("Flatten", inputs, [flat], name=flat, axis=1)
    yield helper.make_node(
        "Gemm", _weighted_inputs(node, [flat]), [output], name=node.name, transB=1
    )


def _activation(
    graph: Graph, node: Node, inputs: list[str], output: str
) -> Iterator[onnx.NodeProto]:
    match node.function:
        case "relu":
            yield helper.make_node("Relu", inputs, [output], name=node.name)
        case "relu6":
            low, high = f"{node.name}.low", f"{node.name}.high"
            for name, value in ((low, 0.0), (high, 6.0)):
                tensor = helper.make_tensor(name, TensorProto.FLOAT, [], [value])
                yield helper.make_node("Constant", [], [name], value=tensor)
            yield helper.make_node("Clip", [*inputs, low, high], [output], name=node.name)
        case "h_swish":
            yield helper.make_node("HardSwish", inputs, [output], name=node.name)
        case "h_sigmoid":
            yield helper.make_node(
                "HardSigmoid", inputs, [output], name=node.name, alpha=1.0 / 6.0, beta=0.5
            )
        case _:
            raise ValueError(f"node {node.name}: no activation {node.function!r}")


def _plain(operator: str) -> _Emitter:
    def emit(graph: Graph, node: Node, inputs: list[str], output: str) -> Iterator[onnx.NodeProto]:
        yield helper.make_node(operator, inputs, [output], name=node.name)

    return emit


def _pool(operator: str, *, ceil: bool) -> _Emitter:
    def emit(graph: Graph, node: Node, inputs: list[str], output: str) -> Iterator[onnx.NodeProto]:
        yield helper.make_node(
            operator,
            inputs,
            [output],
            name=node.name,
            kernel_shape=[node.kernel] * 2,
            strides=[node.stride] * 2,
            pads=[node.padding] * 4,
            ceil_mode=int(ceil),
        )

    return emit


_Emitter = Callable[[Graph, Node, list[str], str], Iterator[onnx.NodeProto]]
_EMITTERS: dict[str, _Emitter] = {
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
