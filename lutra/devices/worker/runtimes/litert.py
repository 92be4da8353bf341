"""LiteRT (the package ai-edge-litert), the successor of tflite-runtime."""

from __future__ import annotations

from typing import Any

import ai_edge_litert
from ai_edge_litert import interpreter as litert

from lutra.devices.worker.runtimes import interpreter


def describe(config: dict[str, Any]) -> dict[str, str]:
    """Version and delegate."""
    interpreter.check(litert)
    return {
        "version": ai_edge_litert.__version__,
        "delegate": interpreter.delegate_name(config),
    }


def load(path: str, config: dict[str, Any]) -> interpreter.InterpreterModel:
    """The model in LiteRT's interpreter."""
    return interpreter.load(litert, path, config)
