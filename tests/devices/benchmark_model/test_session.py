"""The session over benchmark_model, as far as it needs no device; see also `test_android.py`."""

from math import prod

import pytest

from lutra.devices.benchmark_model.session import probe_model
from tests.tflite_runtimes import INTERPRETERS


def test_the_probe_takes_long_on_any_device() -> None:
    """The program prints whole microseconds: a model that takes less than one would read as 0."""
    litert = INTERPRETERS["litert"]
    if isinstance(litert, str):
        pytest.skip(litert)
    interpreter = litert.Interpreter(model_content=probe_model())
    interpreter.allocate_tensors()
    moved = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert sum(4 * prod(tensor["shape"].tolist()) for tensor in moved) >= 8_000_000
    interpreter.invoke()
