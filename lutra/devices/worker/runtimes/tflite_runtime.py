"""tflite-runtime 2.14, the last of its name: built for numpy 1 and Python up to 3.11."""

from __future__ import annotations

from typing import Any

import numpy as np
import tflite_runtime
from tflite_runtime import interpreter as tflite

from lutra.devices.worker.runtimes import interpreter


def describe(config: dict[str, Any]) -> dict[str, str]:
    """Version and delegate; raises RuntimeError where numpy 2 is installed.

    There the import succeeds, and only constructing an interpreter fails.
    """
    try:
        interpreter.check(tflite)
    except Exception as error:
        raise RuntimeError(
            f"tflite-runtime {tflite_runtime.__version__} does not work with numpy"
            f" {np.__version__}; `pip install 'numpy<2'`, or use --runtime litert, its successor"
        ) from error
    return {
        "version": tflite_runtime.__version__,
        "delegate": interpreter.delegate_name(config),
    }


def load(path: str, config: dict[str, Any]) -> interpreter.InterpreterModel:
    """The model in tflite-runtime's interpreter."""
    return interpreter.load(tflite, path, config)
