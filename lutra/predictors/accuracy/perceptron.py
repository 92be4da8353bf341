"""A multilayer perceptron's forward pass, by onnxruntime.

It chooses kernels by the CPU, and adds biases and activations where the products still are. NumPy's
BLAS may not know the CPU's widest instructions, and passes over memory for each of these.
"""

# docs/decisions.md: Scoring by a runtime

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]

_OPSET, _IR_VERSION = 13, 8  # old ones, which every onnxruntime of today reads


class Layer(NamedTuple):
    """One linear layer: weight (out, in), bias (out,)."""

    weight: Weights
    bias: Weights


class Perceptron:
    """Linear layers with ReLU between them, computed in fp32 on one thread."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """``layers`` fit each other: the ``in`` of each is the ``out`` of the one before."""
        self._layers = tuple(layers)

    def __call__(self, features: Weights) -> Weights:
        """(N, in of the first) -> (N, out of the last)."""
        output: Weights
        (output,) = self._session.run(None, {"features": features})
        return output

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(
            _model(self._layers), options, providers=["CPUExecutionProvider"]
        )


def _model(layers: Sequence[Layer]) -> bytes:
    """The layers as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, parameters = [], []
    flowing = "features"
    for number, (weight, bias) in enumerate(layers):
        names = [f"weight_{number}", f"bias_{number}"]
        parameters += [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for array, name in zip((weight, bias), names, strict=True)
        ]
        product = f"product_{number}"
        nodes.append(helper.make_node("Gemm", [flowing, *names], [product], transB=1))
        flowing = product
        if number < len(layers) - 1:
            flowing = f"active_{number}"
            nodes.append(helper.make_node("Relu", [product], [flowing]))
    sizes = (("features", layers[0].weight.shape[1]), (flowing, len(layers[-1].weight)))
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["networks", size])]
        for name, size in sizes
    )
    graph = helper.make_graph(nodes, "perceptron", inputs, outputs, parameters)
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
