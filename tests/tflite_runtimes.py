"""The TFLite interpreters of this environment, or why one is missing."""

from importlib import import_module
from types import ModuleType

import numpy as np


def _interpreter(module: str) -> ModuleType | str:
    if module.startswith("tflite_runtime") and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        return "tflite-runtime does not work with numpy 2"
    try:
        return import_module(module)
    except ModuleNotFoundError:
        return f"{module} is not installed"


INTERPRETERS: dict[str, ModuleType | str] = {
    "litert": _interpreter("ai_edge_litert.interpreter"),
    "tflite-runtime": _interpreter("tflite_runtime.interpreter"),
}
