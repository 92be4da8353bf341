"""Writing a .tflite file: tensors, operators and one signature, through the official schema.

`TfliteFile` knows the format's rules and nothing of graphs: buffers start on 16 bytes (XNNPACK
and mapped files want that), an operator's code is written in the old 8-bit and in the new field,
and there is a SignatureDef, without which quantisers refuse a model.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16
_OLD_CODE_LIMIT = 127  # the 8-bit field says 127 for every operator beyond it
_OVERHEAD_BYTES = 1 << 15

TENSOR_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
}


class TfliteFile:
    """Collects tensors and operators in execution order; `to_bytes` writes the file."""

    def __init__(self) -> None:
        self._buffers: list[_Buffer] = [_Buffer(b"")]  # number 0 means "no data"
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scales: npt.NDArray[np.float32] | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """Declare a tensor that an operator writes, or an input; returns its index.

        ``dtype`` is one of `TENSOR_TYPES`. ``scales`` makes it quantised: one scale, or one for
        each element of ``axis``.
        """
        quantization = None
        if scales is not None:
            zero_points = np.full(len(scales), zero_point, dtype="<i8").tobytes()
            quantization = (scales.astype("<f4").tobytes(), zero_points, axis)
        code = TENSOR_TYPES[dtype]
        self._tensors.append(_Tensor(name, tuple(shape), code, quantization))
        return len(self._tensors) - 1

    def constant(
        self,
        name: str,
        array: npt.NDArray[Any],
        *,
        scales: npt.NDArray[np.float32] | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """A tensor with data; returns its index."""
        index = self.tensor(
            name, array.shape, str(array.dtype), scales=scales, zero_point=zero_point, axis=axis
        )
        self._tensors[index].buffer = len(self._buffers)
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._buffers.append(_Buffer(little_endian.tobytes()))
        return index

    def operator(
        self, code: int, version: int, inputs: Sequence[int], output: int, options: Any = None
    ) -> int:
        """Append an operator that writes ``output``; returns ``output``.

        ``code`` is a `BuiltinOperator`, ``options`` an object of the schema such as
        ``Conv2DOptionsT``.
        """
        index = self._codes.setdefault((code, version), len(self._codes))
        self._operators.append(_Operator(index, inputs, output, options))
        return output

    def to_bytes(self, inputs: int, outputs: int, metadata: Mapping[str, str]) -> bytes:
        """The file, with one input and one output tensor, named ``input`` and ``output``."""
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = "lutra"
        model.operatorCodes = [_operator_code(*key) for key in self._codes]
        model.subgraphs = [self._subgraph(inputs, outputs)]
        model.signatureDefs = [_signature(inputs, outputs)]
        model.metadata = [self._metadata(name, text) for name, text in metadata.items()]
        model.buffers = self._buffers
        size = sum(len(buffer.content) for buffer in self._buffers)
        builder = flatbuffers.Builder(size + _OVERHEAD_BYTES)
        builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
        return bytes(builder.Output())

    def _subgraph(self, inputs: int, outputs: int) -> Any:
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors = self._tensors
        subgraph.inputs = np.asarray([inputs], dtype=np.int32)
        subgraph.outputs = np.asarray([outputs], dtype=np.int32)
        subgraph.operators = self._operators
        return subgraph

    def _metadata(self, name: str, text: str) -> Any:
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = len(self._buffers)
        self._buffers.append(_Buffer(text.encode()))
        return entry


# What a file has many of packs itself, with the method that the schema's own objects have: those
# write every default, and build vectors element by element, at twice the time.


class _Buffer:
    """Constant data. The schema's ``BufferT`` aligns to the item size only."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        data = None
        if self.content:
            data = _vector(builder, self.content, len(self.content), _ALIGNMENT)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


@dataclass
class _Tensor:
    """``quantization``: scales (float32), zero points (int64), quantised dimension."""

    name: str
    shape: tuple[int, ...]
    type: int
    quantization: tuple[bytes, bytes, int] | None
    buffer: int = 0

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        shape = _int32_vector(builder, self.shape)
        text = self.name.encode()
        name = _vector(builder, text + bytes(4 - len(text) % 4), len(text), 4)
        quantization = self._quantization(builder)
        schema.TensorStart(builder)
        schema.TensorAddShape(builder, shape)
        schema.TensorAddType(builder, self.type)
        schema.TensorAddBuffer(builder, self.buffer)
        schema.TensorAddName(builder, name)
        if quantization is not None:
            schema.TensorAddQuantization(builder, quantization)
        schema.TensorAddHasRank(builder, True)
        return int(schema.TensorEnd(builder))

    def _quantization(self, builder: flatbuffers.Builder) -> int | None:
        if self.quantization is None:
            return None
        scales, zero_points, axis = self.quantization
        scale = _vector(builder, scales, len(scales) // 4, 4)
        zero_point = _vector(builder, zero_points, len(zero_points) // 8, 8)
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero_point)
        schema.QuantizationParametersAddQuantizedDimension(builder, axis)
        return int(schema.QuantizationParametersEnd(builder))


@dataclass
class _Operator:
    code_index: int
    inputs: Sequence[int]
    output: int
    options: Any

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        inputs = _int32_vector(builder, self.inputs)
        outputs = _int32_vector(builder, [self.output])
        options = self.options.Pack(builder) if self.options is not None else None
        schema.OperatorStart(builder)
        schema.OperatorAddOpcodeIndex(builder, self.code_index)
        schema.OperatorAddInputs(builder, inputs)
        schema.OperatorAddOutputs(builder, outputs)
        if options is not None:
            kind = type(self.options).__name__.removesuffix("T")
            schema.OperatorAddBuiltinOptionsType(builder, getattr(schema.BuiltinOptions, kind))
            schema.OperatorAddBuiltinOptions(builder, options)
        return int(schema.OperatorEnd(builder))


def _int32_vector(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return _vector(builder, struct.pack(f"<{len(values)}i", *values), len(values), 4)


def _vector(builder: flatbuffers.Builder, content: bytes, count: int, alignment: int) -> int:
    """``content`` behind its count of items, starting on a multiple of ``alignment`` (>= 4)."""
    builder.Prep(alignment, len(content))
    head = builder.head - len(content)
    builder.Bytes[head : head + len(content)] = content
    builder.head = head - 4
    struct.pack_into("<I", builder.Bytes, builder.head, count)
    return int(builder.Offset())


def _operator_code(code: int, version: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.deprecatedBuiltinCode = min(code, _OLD_CODE_LIMIT)
    entry.builtinCode = code
    entry.version = version
    return entry


def _signature(inputs: int, outputs: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs = [_tensor_map("input", inputs)]
    signature.outputs = [_tensor_map("output", outputs)]
    return signature


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name
    entry.tensorIndex = index
    return entry
