"""onnxruntime's CPU provider: one session per model, inputs and outputs bound once.

Bound outputs matter: returning a fresh array from each run costs page faults for large feature
maps, which a network's inner layers never pay.
"""

from __future__ import annotations

from typing import Any

import onnxruntime

from lutra.devices.worker.runtimes.onnx_inputs import random_inputs

onnxruntime.set_default_logger_severity(3)


def describe(config: dict[str, Any]) -> dict[str, str]:
    """Version and execution provider."""
    return {"version": onnxruntime.__version__, "delegate": "CPUExecutionProvider"}


def load(path: str, config: dict[str, Any]) -> OnnxruntimeModel:
    """A session for the model file, fully optimised, with as many threads as cores are pinned."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config["threads"]
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return OnnxruntimeModel(session)


class OnnxruntimeModel:
    """A loaded model with random inputs, ready to run."""

    nodes: tuple[int, int] | None = None

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._binding = session.io_binding()  # docs/decisions.md: Bound outputs
        for name, array in random_inputs(session).items():
            self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for value in session.get_outputs():
            self._binding.bind_output(value.name)
        session.run_with_iobinding(self._binding)
        outputs = self._binding.get_outputs()
        for value, bound in zip(session.get_outputs(), outputs):  # noqa: B905  (Python 3.8)
            self._binding.bind_ortvalue_output(value.name, bound)

    def run(self) -> None:
        """One inference."""
        self._session.run_with_iobinding(self._binding)

    def unload(self) -> None:
        """Free the session."""
        del self._binding, self._session
