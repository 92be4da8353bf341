"""A model file of the user's: what it is, or one line that says why it cannot be timed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutra.errors import ModelError

_MAX_BYTES = 2 << 30  # protobuf and flatbuffers address no more
_TFLITE_IDENTIFIER = b"TFL3"
_ONNX_INT8_OPS = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
}


@dataclass(frozen=True)
class ModelFile:
    """A checked model file. ``precision`` is ``int8`` as soon as a layer has 8-bit weights."""

    path: Path
    format: str
    precision: str
    digest: str

    @property
    def key(self) -> str:
        """The key of its row in a table: its name and the start of its content's digest."""
        return f"{self.path.name}@sha256:{self.digest[:12]}"


def read_model_file(path: str | Path) -> ModelFile:
    """Look at an .onnx or .tflite file.

    Raises `ModelError` when it is missing, another kind of file, too large, damaged, or has inputs
    of dynamic shape.
    """
    path = Path(path)
    readers = {".onnx": _onnx_precision, ".tflite": _tflite_precision}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ModelError(f"{path}: a model file ends in {' or '.join(readers)}")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ModelError(f"{path} has {size / 2**30:.1f} GiB; model files have at most 2")
        precision = reader(path)
        digest = _digest(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    return ModelFile(path, path.suffix.lower().removeprefix("."), precision, digest)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _onnx_precision(path: Path) -> str:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model(path, load_external_data=False).graph
    except DecodeError as error:
        raise ModelError(f"{path} is no ONNX model, or it is damaged") from error
    if not graph.node:
        raise ModelError(f"{path} is no ONNX model, or it is damaged: it has no operators")
    _require_static_shapes(path, graph)
    if any(node.op_type in _ONNX_INT8_OPS for node in graph.node):
        return "int8"
    halves = any(item.data_type == onnx.TensorProto.FLOAT16 for item in graph.initializer)
    return "fp16" if halves else "fp32"


def _require_static_shapes(path: Path, graph: Any) -> None:
    constants = {item.name for item in graph.initializer}
    for value in graph.input:
        if value.name in constants:
            continue
        sizes = [item.dim_param or item.dim_value for item in value.type.tensor_type.shape.dim]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            shape = ", ".join(str(size or "?") for size in sizes)
            raise ModelError(
                f"{path}: input '{value.name}' has the dynamic shape ({shape}); fix its sizes with"
                " `python -m onnxruntime.tools.make_dynamic_shape_fixed`"
            )


def _tflite_precision(path: Path) -> str:
    content = path.read_bytes()
    damaged = f"{path} is no .tflite model, or it is damaged"
    if content[4:8] != _TFLITE_IDENTIFIER:
        raise ModelError(damaged)
    try:
        weights, everything = _tflite_types(content)
    except Exception as error:  # the schema's reader fails in as many ways as a file can lie
        raise ModelError(damaged) from error
    from ai_edge_litert.schema_py_generated import TensorType

    if {TensorType.INT8, TensorType.UINT8, TensorType.INT4} & weights:
        return "int8"
    return "fp16" if TensorType.FLOAT16 in everything else "fp32"


def _tflite_types(content: bytes) -> tuple[set[int], set[int]]:
    """Tensor types of the layers' weights, and of all tensors; raises anything on a bad file.

    Reads the whole structure and follows every index: runtimes trust a file, and a truncated one
    has made tflite-runtime allocate all the machine's memory.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    codes = schema.BuiltinOperator
    layers = {codes.CONV_2D, codes.DEPTHWISE_CONV_2D, codes.FULLY_CONNECTED}
    weights, everything = set(), set()
    for graph in model.subgraphs:
        everything |= {tensor.type for tensor in graph.tensors}
        if max(tensor.buffer for tensor in graph.tensors) >= len(model.buffers):
            raise ValueError("a tensor without a buffer")
        for operator in graph.operators:
            tensors = [*operator.inputs, *operator.outputs]
            if max(tensors) >= len(graph.tensors) or min(tensors) < -1:
                raise ValueError("an operator on no tensor")
            code = model.operatorCodes[operator.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) in layers:
                weights.add(graph.tensors[operator.inputs[1]].type)
    return weights, everything
