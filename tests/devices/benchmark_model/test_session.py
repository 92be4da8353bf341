"""The session over benchmark_model, as far as it needs no device; see also `test_android.py`."""

import time
from math import prod

import pytest

from lutra.devices.base import RuntimeConfig
from lutra.devices.benchmark_model.flags import RUNTIME, refusal
from lutra.devices.benchmark_model.session import _MOST_OUTPUT, probe_model
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


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("WARN: The GPU delegate is not supported on this platform", True),
        ("NNAPI and what it needs are unsupported, GPU or not", True),
        ("ERROR: Failed to apply the default GPU delegate", True),
        ("Couldn't create the NPU accelerator", True),
        ("the model graph will not be executed by the delegate.", True),
        ("this is not supported by the GPU", False),
        ("the delegate: failed to apply", False),
        ("GPUs are not supported", False),
    ],
)
def test_what_says_that_a_delegate_was_not_applied(line: str, refused: bool) -> None:
    config = RuntimeConfig(RUNTIME, options={"delegate": "gpu"})
    said = refusal(config, "compiled-model", f"INFO: STARTING!\n{line}\n", None)
    assert said == (line if refused else None)


@pytest.mark.parametrize("word", ["GPU ", "Failed to apply ", "x" * 100 + " "])
def test_a_long_line_is_looked_at_in_time(word: str) -> None:
    config = RuntimeConfig(RUNTIME, options={"delegate": "gpu"})
    line = word * (_MOST_OUTPUT // len(word))
    before = time.process_time()
    assert refusal(config, "compiled-model", line, None) is None
    assert time.process_time() - before < 2.0


def test_a_long_line_on_what_was_applied_is_looked_at_in_time() -> None:
    config = RuntimeConfig(RUNTIME, options={"delegate": "gpu"})
    before = time.process_time()
    assert refusal(config, "interpreter", "Explicitly applied " * 50_000, 0) is not None
    assert time.process_time() - before < 1.0
