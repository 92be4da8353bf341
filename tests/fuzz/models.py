"""Targets: the model files that `lutra profile --model` takes, and packs of such."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from onnx import TensorProto, helper

from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.model_file import read_model_file
from lutra.files.scratch import scratch_folder
from lutra.ops import Conv, Shape
from lutra.packing.pack import pack, unpack
from tests.fuzz.grammar import ESCAPES, damaged
from tests.fuzz.oracle import require
from tests.fuzz.target import Target

_ONNX, _TFLITE, _PACK, _UNPACKED = "input.onnx", "input.tflite", "input.lpk", "unpacked.tflite"


def _read(name: str, data: bytes) -> None:
    Path(name).write_bytes(data)
    model = read_model_file(name)
    require(model.precision in FORMATS[model.format], f"a precision of {model.precision!r}")
    require(model.key.startswith(f"{name}@sha256:"), f"a key of {model.key!r}")


@cache
def _emitted(format_name: str) -> list[bytes]:
    """One small block in each precision of a format."""
    return [
        Emission(format_name, precision).builder(lambda: Conv(Shape(4, 4, 3), 4, kernel=3).graph)()
        for precision in ("fp32", "int8")
    ]


# ONNX


@st.composite
def _onnx_files(draw: DrawFn) -> bytes:
    """A graph with strange names, shapes, types and weights; or a damaged one of ours."""
    if draw(st.booleans()):
        return draw(damaged(_emitted("onnx")))
    names = st.sampled_from(("x", "y", "", ESCAPES, "a" * 5000, "x\ny", "w"))
    inputs = [
        helper.make_tensor_value_info(draw(names), draw(st.sampled_from(_TYPES)), draw(_shapes()))
        for _ in range(draw(st.integers(0, 3)))
    ]
    nodes = [
        helper.make_node(draw(st.sampled_from(_NODES)), ["x"], ["y"], name=draw(names))
        for _ in range(draw(st.integers(0, 2)))
    ]
    weights = []
    for _ in range(draw(st.integers(0, 2))):
        weight = TensorProto(name=draw(names), data_type=draw(st.integers(0, 1 << 20)))
        weight.dims.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
        weight.raw_data = draw(st.binary(max_size=16))
        if draw(st.booleans()):
            weight.data_location = TensorProto.EXTERNAL
            entry = weight.external_data.add()
            entry.key, entry.value = "location", draw(st.sampled_from(_LOCATIONS))
        weights.append(weight)
    graph = helper.make_graph(nodes, draw(names), inputs, [], weights)
    data = graph.SerializeToString()
    for _ in range(draw(st.sampled_from((0, 0, 0, 30, 200, 3000)))):
        # A branch of a node of a graph: 1, 5 and 6 are GraphProto's node, its attribute, the g of
        # that in onnx.proto, and 7 is ModelProto's graph.
        for number in (6, 5, 1):
            data = field(number, data)
    data = field(7, data)
    # Names that are no UTF-8: a reader of Python's must decode them.
    return data.replace(b"w", b"\xff") if draw(st.booleans()) else data


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire format that holds a message."""
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@st.composite
def _shapes(draw: DrawFn) -> Any:
    sizes = st.sampled_from((None, 0, -1, 1, 3, 224, 2**62, "N", ESCAPES, ""))
    return draw(st.none() | st.lists(sizes, max_size=5))


_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UNDEFINED, TensorProto.STRING, 77)
_NODES = ("Relu", "Conv", "QLinearConv", "", ESCAPES, "w" * 300)
_LOCATIONS = ("/etc/passwd", "../x", "", "input.onnx", ESCAPES)


# TFLite


@st.composite
def _tflite_files(draw: DrawFn) -> bytes:
    """A damaged file of ours, or one whose tables and names stand in many places at once."""
    if draw(st.integers(0, 3)):
        return draw(damaged(_emitted("tflite")))
    return shared_tflite(
        subgraphs=draw(st.integers(0, 3) | st.sampled_from((300, 3000))),
        tensors=draw(st.integers(0, 3) | st.sampled_from((300, 3000))),
        operators=draw(st.integers(0, 3) | st.sampled_from((300, 3000))),
        name_bytes=draw(st.sampled_from((0, 10, 100_000))),
        index=draw(st.sampled_from((0, -1, -2, 1, 2**31 - 1))),
    )


def shared_tflite(
    *, subgraphs: int, tensors: int, operators: int, name_bytes: int, index: int = 0
) -> bytes:
    """A file that says each thing once and points at it as often as it likes.

    It takes a few bytes for each of ``subgraphs + tensors + operators``, and whoever unpacks it
    gets ``subgraphs * (tensors + operators)``.
    """
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("n" * name_bytes)
    schema.TensorStartShapeVector(builder, 1)
    builder.PrependInt32(index)
    indices = builder.EndVector()
    schema.TensorStart(builder)
    schema.TensorAddShape(builder, indices)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, indices)
    schema.OperatorAddOutputs(builder, indices)
    operator = schema.OperatorEnd(builder)
    listed_tensors = _times(builder, tensors, tensor)
    listed_operators = _times(builder, operators, operator)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, listed_tensors)
    schema.SubGraphAddOperators(builder, listed_operators)
    schema.SubGraphAddName(builder, name)
    subgraph = schema.SubGraphEnd(builder)
    schema.BufferStart(builder)
    buffers = _times(builder, 1, schema.BufferEnd(builder))
    schema.OperatorCodeStart(builder)
    codes = _times(builder, 1, schema.OperatorCodeEnd(builder))
    listed = _times(builder, subgraphs, subgraph)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddBuffers(builder, buffers)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, listed)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def open_tflite(signature: Sequence[int], shape: Sequence[int]) -> bytes:
    """A file of one RELU whose input leaves sizes open (-1 in its signature)."""
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = [schema.OperatorCodeT()]
    code = schema.BuiltinOperator.RELU
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = code
    model.operatorCodes[0].version = 1
    model.buffers = [schema.BufferT()]
    operator, graph = schema.OperatorT(), schema.SubGraphT()
    operator.inputs, operator.outputs = [0], [1]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    graph.tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.shapeSignature = name, list(shape), list(signature)
        graph.tensors.append(tensor)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _times(builder: Any, count: int, offset: int) -> int:
    """A vector that holds the same table over and over."""
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


# packs


def _unpack(data: bytes) -> None:
    Path(_PACK).write_bytes(data)
    require(unpack(_PACK, _UNPACKED).pack_bytes == len(data), "a pack of another size")


@cache
def _packed() -> list[bytes]:
    """Packs of small blocks."""
    packs = []
    with scratch_folder() as folder:
        for content in _emitted("tflite"):
            (folder / _TFLITE).write_bytes(content)
            pack(folder / _TFLITE, folder / _PACK)
            packs.append((folder / _PACK).read_bytes())
    return packs


@st.composite
def _packs(draw: DrawFn) -> bytes:
    """A damaged pack, mostly with a checksum that fits: sizes, ways and tables that lie."""
    data = draw(damaged(_packed()))
    if not draw(st.integers(0, 3)):
        return data
    return data[:8] + struct.pack("<I", zlib.crc32(data[12:])) + data[12:]


TARGETS = (
    Target(
        "onnx",
        lambda data: _read(_ONNX, data),
        _onnx_files,
        lambda: _emitted("onnx"),
        leaves=frozenset({_ONNX}),
        examples=(  # weights in a file whose name is no text
            b':R\n\x11\n\x01x\x12\x01y\x1a\x03x\ny"\x04Relu\n\x16\n\x01x\x12\x01y\x1a\x01y"\x0b'
            b"QLinearConv\x12\x00*#\x10\xe6\x0fB\x01\xffJ\x00j\x17\n\x08location\x12\x0b"
            b"/etc/pass\xffdp\x01",
        ),
    ),
    Target(
        "tflite",
        lambda data: _read(_TFLITE, data),
        _tflite_files,
        lambda: [
            *_emitted("tflite"),
            shared_tflite(subgraphs=2, tensors=2, operators=2, name_bytes=3),
            open_tflite(signature=(-1, 4), shape=(1, 4)),
        ],
        leaves=frozenset({_TFLITE}),
    ),
    Target("pack", _unpack, _packs, _packed, leaves=frozenset({_PACK, _UNPACKED}), suite_inputs=20),
)
