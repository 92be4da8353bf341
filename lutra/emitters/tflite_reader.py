"""Reading a .tflite file that anyone may have written: all of it, in time and room of its size.

A file may point at one table, or one name, from as many places as it likes, and at those from as
many again: read as they stand, a few kilobytes fill the machine. An honest file says each thing
once, so what is read of one is bounded by what it has room for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

MOST_TABLES = 1 << 16  # unpacking one takes up to 0.1 ms and some kilobytes
_MOST_INDICES = 1 << 20
_MOST_SIZES = 64  # of an input
_LISTS = ("OperatorCodes", "Subgraphs", "Buffers", "Metadata", "SignatureDefs")
_POINTER_BYTES = 4  # what each place takes from which a file points at a table


class TooManyTablesError(ValueError):
    """A file has more than `MOST_TABLES` tables, or more indices of tensors than those need."""


class Contents(NamedTuple):
    """What is asked of a file: tensor types of the layers' weights, and of all tensors.

    ``open_inputs`` are the inputs some of whose sizes it leaves open: their names and the shapes
    that stand in for those, at which a runtime that is told nothing runs it.
    """

    weights: set[int]
    everything: set[int]
    open_inputs: list[tuple[str, tuple[int, ...]]]


def read_contents(content: bytes) -> Contents:
    """Raises `TooManyTablesError`, and anything on a bad file.

    Reads the whole structure and follows every index: runtimes trust a file, and a truncated one
    has made tflite-runtime allocate all the machine's memory.
    """
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(_Counted(content))
    _require_room_for_tables(root, len(content))
    model = schema.ModelT.InitFromObj(root)
    codes = schema.BuiltinOperator
    layers = {codes.CONV_2D, codes.DEPTHWISE_CONV_2D, codes.FULLY_CONNECTED}
    weights, everything = set(), set()
    for graph in model.subgraphs:
        everything |= {tensor.type for tensor in graph.tensors}
        if max((tensor.buffer for tensor in graph.tensors), default=-1) >= len(model.buffers):
            raise ValueError("a tensor without a buffer")
        for operator in graph.operators:
            tensors = [*operator.inputs, *operator.outputs]
            if max(tensors, default=-1) >= len(graph.tensors) or min(tensors, default=-1) < -1:
                raise ValueError("an operator on no tensor")
            code = model.operatorCodes[operator.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) in layers:
                weights.add(graph.tensors[operator.inputs[1]].type)
    return Contents(weights, everything, _open_inputs(model.subgraphs[0]))


def _open_inputs(graph: Any) -> list[tuple[str, tuple[int, ...]]]:
    inputs = [] if graph.inputs is None else [int(index) for index in graph.inputs]
    if min(inputs, default=0) < 0 or len(set(inputs)) < len(inputs):
        raise ValueError("an input that is no tensor, or twice the same")
    return [
        ((tensor.name or b"").decode(errors="replace"), _sizes(tensor.shape))
        for tensor in (graph.tensors[index] for index in inputs)
        if min(_sizes(tensor.shapeSignature), default=0) < 0
    ]


def _sizes(shape: Any) -> tuple[int, ...]:
    if shape is not None and len(shape) > _MOST_SIZES:
        raise ValueError("an input of more sizes than a runtime knows")
    return () if shape is None else tuple(map(int, shape))


class _Counted(bytes):
    """A file's bytes, of which no more may be copied than there are: its names are read so."""

    _copied = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if isinstance(place, slice):
            self._copied += len(found)
            if self._copied > len(self):
                raise ValueError("its names are longer than it")
        return found


def _require_room_for_tables(model: Any, size: int) -> None:
    """Raise ValueError where tables are more than ``size`` bytes can point at, or than we read."""
    room, tables, indices = size // _POINTER_BYTES, 0, 0
    for more_tables, more_indices in _tables_and_indices(model):
        tables += more_tables
        indices += more_indices
        if tables + indices > room:
            raise ValueError("it has more tables than room for them")
        if tables > MOST_TABLES or indices > _MOST_INDICES:
            raise TooManyTablesError


def _tables_and_indices(model: Any) -> Iterator[tuple[int, int]]:
    """The lengths of all lists of tables, and of those of indices, outer ones first."""
    for name in _LISTS:
        yield getattr(model, f"{name}Length")(), 0
    for graph in _each(model, "Subgraphs"):
        yield graph.TensorsLength() + graph.OperatorsLength(), graph.InputsLength()
        for tensor in _each(graph, "Tensors"):
            sparsity = tensor.Sparsity()
            yield tensor.VariantTensorsLength(), 0
            yield 0 if sparsity is None else sparsity.DimMetadataLength(), 0
        for operator in _each(graph, "Operators"):
            yield 0, operator.InputsLength() + operator.OutputsLength()
    for signature in _each(model, "SignatureDefs"):
        yield signature.InputsLength() + signature.OutputsLength(), 0


def _each(owner: Any, name: str) -> Iterator[Any]:
    """The tables of one of a table's lists."""
    at = getattr(owner, name)
    return (at(place) for place in range(getattr(owner, f"{name}Length")()))
