"""Runtimes that the worker can time, one small file each.

A runtime module offers ``describe(config) -> dict`` (version, delegate; raises when the runtime
cannot work here) and ``load(path, config) -> LoadedModel``. A loaded model has ``run()``,
``unload()`` and ``nodes``: how many nodes it has and how many a delegate took, or None where the
runtime does not tell. One that the device's own clock times has what `device_timing` asks for
instead of ``run()``, and its module has ``fatal(error)`` and ``out_of_memory(error)``.

``config`` is the dictionary of the worker's ``open`` request: ``threads``, ``batch``, ``options``.
These files import only the standard library, numpy and the runtime they time: they also run on
boards.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import NamedTuple


class Runtime(NamedTuple):
    """What a runtime loads, which module times it, what that imports, and what pip calls it.

    ``format`` is that of its model files: ``onnx``, ``tflite``, ``torch``. ``options`` maps a name
    to the values it may have, the default first.
    """

    format: str
    module: str
    package: str
    install: str
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})


_HERE = __name__
_XNNPACK = MappingProxyType({"xnnpack": ("on", "off")})
TORCH = "'torch>=2.4,<2.14'"

RUNTIMES = {
    "onnxruntime": Runtime("onnx", f"{_HERE}.onnxruntime", "onnxruntime", "onnxruntime"),
    "litert": Runtime("tflite", f"{_HERE}.litert", "ai_edge_litert", "ai-edge-litert", _XNNPACK),
    "tflite-runtime": Runtime(
        "tflite",
        f"{_HERE}.tflite_runtime",
        "tflite_runtime",
        "'lutra[tflite-runtime]'",
        _XNNPACK,
    ),
    "torch": Runtime("torch", f"{_HERE}.torch", "torch", TORCH, {"compile": ("off", "on")}),
}

_ON_OFF = ("off", "on")
_CUDA = MappingProxyType({"graph": _ON_OFF, "tf32": _ON_OFF, "inputs": ("rotating", "same")})
# The same runtimes on an NVIDIA GPU.
CUDA_RUNTIMES = {
    "torch": Runtime(
        "torch",
        f"{_HERE}.torch_cuda",
        "torch",
        TORCH,
        {**_CUDA, "compile": _ON_OFF, "layout": ("nchw", "channels_last"), "autotune": _ON_OFF},
    ),
    "onnxruntime": Runtime(
        "onnx",
        f"{_HERE}.onnxruntime_cuda",
        "onnxruntime",
        "onnxruntime-gpu",
        {**_CUDA, "provider": ("cuda", "tensorrt")},
    ),
}


def load_runtime(module: str, install: str) -> ModuleType:
    """The module that times a runtime; raises ImportError, with the remedy, without its package."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the package {error.name} is not installed; `pip install {install}` adds it"
        ) from error
