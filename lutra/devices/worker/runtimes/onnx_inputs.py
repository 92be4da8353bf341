"""What onnxruntime's sessions read and write, as numpy names it; random inputs for a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lutra.devices.worker.runtimes.inputs import random_input

if TYPE_CHECKING:  # numpy has it since 1.20, boards may have less
    import numpy.typing as npt

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def random_inputs(session: Any) -> dict[str, npt.NDArray[Any]]:
    """An array for each of the session's inputs; raises ValueError that names the one it cannot."""
    return {value.name: _input(value) for value in session.get_inputs()}


def numpy_type(value: Any, what: str) -> str:
    """The type of a session's input or output; raises ValueError for one that numpy lacks."""
    if value.type not in _TYPES:
        raise ValueError(f"{what} {value.name} is {value.type}, which is not known")
    return _TYPES[value.type]


def _input(value: Any) -> npt.NDArray[Any]:
    dtype = numpy_type(value, "input")
    try:
        return random_input(value.shape, dtype)
    except ValueError as error:
        raise ValueError(f"input {value.name}: {error}") from error
