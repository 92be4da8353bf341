"""An ONNX file of the user's: its precision, the files beside it, the shapes of its inputs.

A shape that the file leaves open is fixed by writing it into the file: so a runtime plans for it as
it does where the model is deployed with it, on every device alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lutra.emitters.onnx_parts import MOST_PARTS, TooManyPartsError, require_few_parts
from lutra.errors import ModelError, UsageError
from lutra.text import printable_line, why

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""Sizes by the name of an input, or one size by the name that files give to it (``batch``)."""

_MOST_NUMBERS = 1 << 31  # of one input
_USUAL = (1, 224)  # the first size of an input and the others, in an example
_INT8_OPS = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
}


def read_onnx(path: Path) -> Any:
    """The model without the weights that are kept beside it.

    Raises `ModelError` for what is no model or far too large a one, and OSError.
    """
    import onnx
    from google.protobuf.message import DecodeError

    content = path.read_bytes()
    try:
        require_few_parts(content, onnx.ModelProto.DESCRIPTOR)
        model = onnx.load_model_from_string(content)
    except TooManyPartsError:
        raise ModelError(
            f"{path} has more than {MOST_PARTS:,} operators, tensors, names and numbers;"
            " no network that can be timed here has as many"
        ) from None
    except (DecodeError, ValueError, IndexError) as error:
        raise ModelError(f"{path} is no ONNX model, or it is damaged") from error
    if not model.graph.node:
        raise ModelError(f"{path} is no ONNX model, or it is damaged: it has no operators")
    if not all(isinstance(text, str) for text in _texts(model)):
        raise ModelError(f"{path} is no ONNX model, or it is damaged: its names are no text")
    return model


def _texts(model: Any) -> Iterator[object]:
    """What is used of its texts; protobuf hands on as bytes what is none."""
    for value in model.graph.input:
        yield value.name
        yield from (size.dim_param for size in value.type.tensor_type.shape.dim)
    for tensor in _tensors(model):
        yield from (entry.value for entry in tensor.external_data)


def precision_of(model: Any) -> str:
    """``int8`` as soon as it has an operator of 8 bits, ``fp16`` as soon as it has such weights."""
    import onnx

    if any(node.op_type in _INT8_OPS for node in model.graph.node):
        return "int8"
    halves = any(item.data_type == onnx.TensorProto.FLOAT16 for item in model.graph.initializer)
    return "fp16" if halves else "fp32"


class ExternalWeights(NamedTuple):
    """Weights in files beside a model: what those hold, and what its tensors read of them.

    More where tensors share some. From a small file, a hostile one reads without end.
    """

    files: tuple[Path, ...]
    held_bytes: int
    read_bytes: int


def external_weights(path: Path, model: Any) -> ExternalWeights | None:
    """None without any; raises `ModelError` where they are not beside the file."""
    told = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in _tensors(model)
        if tensor.external_data
    ]
    told = [entries for entries in told if "location" in entries]
    files = {location: _beside(path, location) for location in {item["location"] for item in told}}
    if not files:
        return None
    held = {location: file.stat().st_size for location, file in sorted(files.items())}
    try:
        read = sum(_read_bytes(entries, held) for entries in told)
    except ValueError as error:
        raise ModelError(f"{path} is no ONNX model, or it is damaged") from error
    return ExternalWeights(tuple(files[name] for name in held), sum(held.values()), read)


def _beside(path: Path, location: str) -> Path:
    """The file of a location; raises `ModelError` where it is not one in the model's folder."""
    file, told = path.parent / location, f"{path} has weights in '{printable_line(location)}'"
    if Path(location).is_absolute() or ".." in file.parts[len(path.parent.parts) :]:
        raise ModelError(f"{told}, which is not in its folder")
    if not file.is_file():
        raise ModelError(f"{told}, and there is no such file")
    return file


def _read_bytes(entries: Mapping[str, str], held_bytes: Mapping[str, int]) -> int:
    """What one tensor reads: a length, or all that its file holds."""
    length = int(entries.get("length", held_bytes[entries["location"]]))
    if length < 0:
        raise ValueError("a negative length")
    return length


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors with values, also those in the bodies of loops and functions."""
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for attribute in (item for node in graph.node for item in node.attribute):
            yield from (attribute.t, *attribute.tensors)
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            graphs.extend(attribute.graphs)


def open_names(model: Any) -> frozenset[str]:
    """What shapes can be given for: the inputs, and the names of their open sizes."""
    inputs = _inputs(model)
    sizes = {size for value in inputs for size in _sizes(value) or () if isinstance(size, str)}
    return frozenset(sizes | {value.name for value in inputs})


def fixed_shapes(path: Path, model: Any, given: Shapes) -> dict[str, Shape]:
    """The shapes of those inputs whose sizes the file leaves open, by ``given``.

    Names that are not the model's are left out. Raises `ModelError` for an input that cannot be
    fed, or whose sizes are not known, and `UsageError` for sizes that contradict the file.
    """
    inputs = _inputs(model)
    names = {value.name for value in inputs}
    symbols = {name: _one_size(name, sizes) for name, sizes in given.items() if name not in names}
    for value in inputs:
        if value.name in given:
            _learn(symbols, value, given[value.name])
    found: dict[str, Shape] = {}
    for value in inputs:
        _require_tensor(path, value)
        sizes = _sizes(value)
        shape = given.get(value.name) or _filled(path, value, symbols)
        if math.prod(shape) > _MOST_NUMBERS:
            raise ModelError(
                f"{path}: input {_called(value)} has more than {_MOST_NUMBERS} numbers"
            )
        if sizes is None or list(shape) != sizes:
            found[value.name] = shape
    return found


def as_one_file(path: Path, shapes: Shapes) -> bytes:
    """The whole model, its weights in it, with these shapes of inputs.

    Raises `ModelError` where that is too much for one file, or cannot be read. How much its
    weights take is for the caller to judge before, by `external_weights`.
    """
    from onnx.external_data_helper import load_external_data_for_model

    try:
        model = read_onnx(path)
        load_external_data_for_model(model, str(path.parent))
        symbols: dict[str, int] = {}
        for value in _inputs(model):
            if value.name in shapes:
                _learn(symbols, value, shapes[value.name])
                _fix(value, shapes[value.name])
        for value in (*model.graph.output, *model.graph.value_info):
            for size in value.type.tensor_type.shape.dim:
                if size.dim_param in symbols:
                    size.dim_value = symbols[size.dim_param]
        content = model.SerializeToString()
    except ModelError:
        raise
    except Exception as error:  # onnx and protobuf raise what they like
        raise ModelError(f"cannot make one file of {path}: {why(error)}") from error
    assert isinstance(content, bytes)
    return content


def _inputs(model: Any) -> list[Any]:
    """What a run is fed: inputs that are not constants at the same time."""
    graph = model.graph
    constants = {item.name for item in graph.initializer}
    constants |= {item.values.name for item in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in constants]


def _sizes(value: Any) -> list[int | str | None] | None:
    """An input's sizes: a number, a name for one that is open, or neither; None without a shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        size.dim_value
        if size.HasField("dim_value") and size.dim_value >= 0
        else size.dim_param or None
        for size in tensor.shape.dim
    ]


def _require_tensor(path: Path, value: Any) -> None:
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelError(f"{path}: input {_called(value)} is no tensor, which cannot be fed")
    if 0 in (_sizes(value) or ()):
        raise ModelError(f"{path}: input {_called(value)} has a size of 0: {_told(value)}")


def _one_size(name: str, sizes: Shape) -> int:
    if len(sizes) != 1:
        raise UsageError(f"--shape {name}={_comma(sizes)}: '{name}' is one size, not a shape")
    return sizes[0]


def _learn(symbols: dict[str, int], value: Any, shape: Shape) -> None:
    """Take note of what a shape says of named sizes; raises `UsageError` where it cannot be."""
    sizes = _sizes(value)
    told = f"--shape {printable_line(value.name)}={_comma(shape)}"
    if sizes is None:
        return
    if len(sizes) != len(shape):
        raise UsageError(f"{told}: the input has {len(sizes)} sizes: {_told(value)}")
    for size, wanted in zip(sizes, shape, strict=True):
        known = symbols.setdefault(size, wanted) if isinstance(size, str) else size
        if known not in (None, wanted):
            raise UsageError(f"{told}: {wanted} contradicts {known}; the input is {_told(value)}")


def _filled(path: Path, value: Any, symbols: Mapping[str, int]) -> Shape:
    """An input's shape by the names of its open sizes; raises `ModelError` where one is missing."""
    sizes = _sizes(value)
    known = [symbols.get(size) if isinstance(size, str) else size for size in sizes or ()]
    shape = tuple(size for size in known if size is not None)
    if sizes is not None and len(shape) == len(sizes):
        return shape
    wrong = "no shape" if sizes is None else f"the open shape {_told(value)}"
    raise ModelError(
        f"{path}: input {_called(value)} has {wrong}; say what to time, as {_example(value, known)}"
    )


def _example(value: Any, known: list[int | None]) -> str:
    """Options that give the missing sizes of an input."""
    sizes, name = _sizes(value), printable_line(value.name)
    if sizes is None:
        return f"--shape {name}=1,3,224,224"
    usual = [_USUAL[min(place, 1)] if size is None else size for place, size in enumerate(known)]
    missing = {size: usual[place] for place, size in enumerate(sizes) if known[place] is None}
    if None in missing:
        return f"--shape {name}={_comma(tuple(usual))}"
    return printable_line(" ".join(f"--shape {key}={size}" for key, size in missing.items()))


def _fix(value: Any, shape: Shape) -> None:
    del value.type.tensor_type.shape.dim[:]
    for size in shape:
        value.type.tensor_type.shape.dim.add().dim_value = size


def _told(value: Any) -> str:
    """An input's shape as people write it; a size that is open and has no name is a ``?``."""
    sizes = ("?" if size is None else printable_line(str(size)) for size in _sizes(value) or ())
    return f"({', '.join(sizes)})"


def _called(value: Any) -> str:
    """An input's name, which may be anything, for a message."""
    return f"'{printable_line(value.name)}'"


def _comma(sizes: Shape) -> str:
    return ",".join(map(str, sizes))
