"""Runtimes that the worker can time, one small file each.

A runtime module offers ``describe(settings) -> dict`` (version, delegate; raises when the runtime
cannot work here) and ``load(path, settings) -> Model``. A model has ``run()``, ``unload()`` and
``nodes``: how many nodes it has and how many a delegate took, or None where the runtime does not
tell. One that the device's own clock times has what `lutra.devices.device_timing` asks for instead
of ``run()``, and its module has ``fatal(error)`` and ``out_of_memory(error)``. ``settings`` is the
dictionary of the worker's ``open`` request: ``threads``, ``batch``, ``options``. These files import
only the standard library, numpy and the runtime they time: they also run on boards.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import NamedTuple


class Runtime(NamedTuple):
    """Where a runtime's file is, what it imports, what pip calls that, and its options.

    ``options`` maps a name to the values it may have, the default first.
    """

    module: str
    package: str
    install: str
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})


_XNNPACK = MappingProxyType({"xnnpack": ("on", "off")})

RUNTIMES = {
    "onnxruntime": Runtime("lutra.devices.runtimes.onnxruntime", "onnxruntime", "onnxruntime"),
    "litert": Runtime(
        "lutra.devices.runtimes.litert", "ai_edge_litert", "ai-edge-litert", _XNNPACK
    ),
    "tflite-runtime": Runtime(
        "lutra.devices.runtimes.tflite_runtime",
        "tflite_runtime",
        "'lutra[tflite-runtime]'",
        _XNNPACK,
    ),
    "torch": Runtime(
        "lutra.devices.runtimes.torch", "torch", "'torch>=2.4,<2.14'", {"compile": ("off", "on")}
    ),
}

_ON_OFF = ("off", "on")
_CUDA = MappingProxyType({"graph": _ON_OFF, "tf32": _ON_OFF, "inputs": ("rotating", "same")})
# The same runtimes on an NVIDIA GPU.
CUDA_RUNTIMES = {
    "torch": Runtime(
        "lutra.devices.runtimes.torch_cuda",
        "torch",
        "'torch>=2.4,<2.14'",
        {**_CUDA, "compile": _ON_OFF, "layout": ("nchw", "channels_last"), "autotune": _ON_OFF},
    ),
    "onnxruntime": Runtime(
        "lutra.devices.runtimes.onnxruntime_cuda",
        "onnxruntime",
        "onnxruntime-gpu",
        {**_CUDA, "provider": ("cuda", "tensorrt")},
    ),
}


def installed() -> tuple[str, ...]:
    """The runtimes whose package is installed beside this file; whether it works, `open` says."""
    return tuple(name for name, runtime in RUNTIMES.items() if find_spec(runtime.package))


def runtimes_on(cuda: int | None) -> dict[str, Runtime]:
    """The runtimes of the CPU, or with the number of a GPU those of NVIDIA GPUs."""
    return RUNTIMES if cuda is None else CUDA_RUNTIMES


def load_runtime(name: str, cuda: int | None = None) -> ModuleType:
    """The module of a runtime; raises ImportError, with the remedy, if its package is missing."""
    runtime = runtimes_on(cuda)[name]
    try:
        return import_module(runtime.module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the package {error.name} is not installed; `pip install {runtime.install}` adds it"
        ) from error
