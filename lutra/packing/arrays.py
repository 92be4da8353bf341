"""Where a model file's numbers are among its bytes: weights, biases, scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lutra.emitters.model_file import read_tflite_contents
from lutra.emitters.onnx_file import external_weights, read_onnx
from lutra.errors import ModelError

MOST_ARRAYS = 1 << 16  # more are left to a general compressor
FEWEST_BYTES = 16  # below, an array's entry in a pack takes more than it can save
_WIDTHS = {"FLOAT32": 4, "INT32": 4, "FLOAT16": 2, "INT8": 1, "UINT8": 1, "INT4": 1}


class Place(NamedTuple):
    """Numbers of ``width`` bytes each that take ``size`` bytes from ``offset`` on."""

    offset: int
    size: int
    width: int


def places_in(path: Path, content: bytes) -> list[Place]:
    """The arrays of a .tflite or .onnx file, by offset, none over another.

    Raises `ModelError` for a file that is neither, damaged, or whose weights are in other files.
    """
    finders = {".tflite": _in_tflite, ".onnx": _in_onnx}
    finder = finders.get(path.suffix.lower())
    if finder is None:
        raise ModelError(f"{path}: what is packed ends in {' or '.join(finders)}")
    return list(islice(_apart(finder(path, content)), MOST_ARRAYS))


def _apart(places: Iterable[Place]) -> Iterator[Place]:
    end = 0
    for place in sorted(set(places)):
        if place.offset >= end and place.size >= FEWEST_BYTES and place.size % place.width == 0:
            yield place
            end = place.offset + place.size


def _in_onnx(path: Path, content: bytes) -> Iterator[Place]:
    """Initialisers that are kept as bytes: wherever these bytes stand, they may be coded."""
    import onnx

    model = read_onnx(path)
    if external_weights(path, model) is not None:
        raise ModelError(f"{path} keeps weights in files beside it; save it as one file to pack it")
    at = 0
    for tensor in model.graph.initializer:
        found = content.find(tensor.raw_data, at) if tensor.raw_data else -1
        if found >= 0 and tensor.data_type in onnx.TensorProto.DataType.values():
            at = found + len(tensor.raw_data)
            name = onnx.TensorProto.DataType.Name(tensor.data_type)
            yield Place(found, len(tensor.raw_data), _WIDTHS.get(_ONNX_NAMES.get(name, name), 1))


_ONNX_NAMES = {"FLOAT": "FLOAT32"}


def _in_tflite(path: Path, content: bytes) -> Iterator[Place]:
    from ai_edge_litert import schema_py_generated as schema

    read_tflite_contents(path)  # bounds what follows: it raises on indices of nothing
    whole = np.frombuffer(content, np.uint8)
    model = schema.Model.GetRootAs(content)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            width = _WIDTHS.get(_tflite_types()[tensor.Type()], 1)
            yield from _place(whole, model.Buffers(tensor.Buffer()).DataAsNumpy(), width)
            grid = tensor.Quantization()
            if grid is not None:
                yield from _place(whole, grid.ScaleAsNumpy(), 4)


def _tflite_types() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import TensorType

    return {value: name for name, value in vars(TensorType).items() if isinstance(value, int)}


def _place(whole: Any, array: Any, width: int) -> Iterator[Place]:
    """Of a view into the whole file's bytes; the schema gives 0 where there is none."""
    if isinstance(array, np.ndarray) and array.nbytes:
        yield Place(array.ctypes.data - whole.ctypes.data, array.nbytes, width)
