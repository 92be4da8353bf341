"""The CUDA driver's binding against a scripted libcuda.so.1, in child processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lutra.devices.worker.cuda_driver import FATAL, OUT_OF_MEMORY, CudaError, open_stream
from tests.peers.gpu import card
from tests.peers.gpu.cuda_library import ScriptedCuda, available

PRELUDE = """
import json, time
from lutra.devices.worker.cuda_driver import *
def tell(value): print(json.dumps(value))
def error_of(work):
    try:
        work()
    except CudaError as error:
        return [str(error), error.code, error.fatal]
"""


@pytest.fixture
def cuda(tmp_path: Path) -> ScriptedCuda:
    if (missing := available()) is not None:
        pytest.skip(missing)
    return ScriptedCuda(tmp_path)


def opening_error(cuda: ScriptedCuda, device: int = 0) -> tuple[str, int, bool]:
    message, code, fatal = cuda.run(f"{PRELUDE}\ntell(error_of(lambda: open_stream({device})))")
    assert "\n" not in message
    return message, code, fatal


def test_what_a_device_says_of_itself(cuda: ScriptedCuda) -> None:
    cuda.set(version=12080, devices=2, l2=1 << 20)
    program = "tell([driver_version(), l2_bytes(1)])"
    assert cuda.run(PRELUDE + program) == [[12, 8], 1 << 20]


@pytest.mark.timed
def test_elapsed_time_is_that_of_the_work(cuda: ScriptedCuda) -> None:
    program = """
stream = open_stream(0)
start = time.perf_counter()
inner = stream.milliseconds(lambda: time.sleep(0.03))
tell([inner, 1e3 * (time.perf_counter() - start), stream.handle])
"""
    inner, outer, handle = cuda.run(PRELUDE + program)
    assert 30.0 <= inner <= outer
    assert handle > 0


@pytest.mark.parametrize("before_12_8", [True, False])
def test_elapsed_time_is_the_difference_of_the_events(tmp_path: Path, before_12_8: bool) -> None:
    if (missing := available()) is not None:
        pytest.skip(missing)
    cuda = ScriptedCuda(tmp_path, before_12_8=before_12_8)
    cuda.set(tick_ms=0.25)
    program = "stream = open_stream(0)\ntell([stream.milliseconds(int) for _ in range(3)])"
    assert cuda.run(PRELUDE + program) == [0.25] * 3
    read = "cuEventElapsedTime" if before_12_8 else "cuEventElapsedTime_v2"
    assert cuda.calls().count(read) == 3


def test_a_block_synchronises_once_at_its_end(cuda: ScriptedCuda) -> None:
    program = """
stream = open_stream(0)
stream.milliseconds(lambda: None)
stream.milliseconds(lambda: [None for _ in range(100)])
tell(0)
"""
    cuda.run(PRELUDE + program)
    block = ["cuEventRecord", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime_v2"]
    calls = cuda.calls()
    assert calls[calls.index("cuEventRecord") :] == block * 2


def test_the_driver_is_initialised_once(cuda: ScriptedCuda) -> None:
    cuda.run(f"{PRELUDE}open_stream(0), open_stream(0), l2_bytes(0)\ntell(0)")
    assert cuda.calls()[0] == "cuInit"
    assert cuda.calls().count("cuInit") == 1


def test_closing_gives_everything_back(cuda: ScriptedCuda) -> None:
    cuda.run(f"{PRELUDE}stream = open_stream(0)\nstream.close()\ntell(0)")
    calls = cuda.calls()
    for made, given_back in [
        ("cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2"),
        ("cuStreamCreate", "cuStreamDestroy_v2"),
        ("cuEventCreate", "cuEventDestroy_v2"),
    ]:
        assert calls.count(made) == calls.count(given_back) > 0


def test_closing_a_lost_device_does_not_fail(cuda: ScriptedCuda) -> None:
    cuda.set(cuEventDestroy_v2=700, cuStreamDestroy_v2=700, cuDevicePrimaryCtxRelease_v2=700)
    assert cuda.run(f"{PRELUDE}stream = open_stream(0)\nstream.close()\ntell(7)") == 7


@pytest.mark.parametrize(
    ("code", "says", "advice"),
    [
        (34, "stub library (CUDA_ERROR_STUB_LIBRARY 34)", "LD_LIBRARY_PATH"),
        (35, "unknown error (CUDA error 35)", "too old"),
        (100, "no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE 100)", "--gpus all"),
        (802, "not yet initialized (CUDA_ERROR_SYSTEM_NOT_READY 802)", "nvidia-fabricmanager"),
        (803, "(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH 803)", "reboot"),
        (999, "unknown error (CUDA_ERROR_UNKNOWN 999)", "nvidia-modprobe"),
    ],
)
def test_a_driver_that_does_not_start(
    cuda: ScriptedCuda, code: int, says: str, advice: str
) -> None:
    cuda.set(cuInit=code)
    message, told, _ = opening_error(cuda)
    assert message.startswith("cuInit: ")
    assert says in message
    assert advice in message
    assert told == code


def test_a_device_that_there_is_not(cuda: ScriptedCuda) -> None:
    cuda.set(devices=2)
    message, code, fatal = opening_error(cuda, 2)
    assert message.startswith("no CUDA device 2, this process sees 2; `nvidia-smi -L`")
    assert (code, fatal) == (101, False)


def test_a_device_that_another_process_holds(cuda: ScriptedCuda) -> None:
    cuda.set(cuDevicePrimaryCtxRetain=46)
    message, code, _ = opening_error(cuda)
    assert "busy or unavailable (CUDA_ERROR_DEVICE_UNAVAILABLE 46)" in message
    assert code == 46


@pytest.mark.parametrize(("code", "fatal"), [(700, True), (719, True), (214, True), (2, False)])
def test_work_that_fails(cuda: ScriptedCuda, code: int, fatal: bool) -> None:
    """The error shows when it is waited for, after two blocks that were well."""
    cuda.set(cuEventSynchronize=code, cuEventSynchronize_after=2, cuStreamSynchronize=code)
    program = """
stream = open_stream(0)
well = [stream.milliseconds(int) >= 0 for _ in range(2)]
tell([well, error_of(lambda: stream.milliseconds(int)), error_of(stream.synchronize)])
"""
    well, block, waiting = cuda.run(PRELUDE + program)
    assert well == [True, True]
    for name, (message, told, lost) in [
        ("cuEventSynchronize", block),
        ("cuStreamSynchronize", waiting),
    ]:
        assert message.startswith(f"{name}: ")
        assert (told, lost) == (code, fatal)
        assert ("start a new one" in message) == fatal


def test_a_machine_without_driver(tmp_path: Path) -> None:
    if card.why_no_driver() is None or sys.platform != "linux":
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(CudaError, match=r"no NVIDIA driver on this machine \(libcuda.so.1: "):
        open_stream(0)


def test_running_out_of_memory_is_not_the_end() -> None:
    assert OUT_OF_MEMORY not in FATAL
    assert not CudaError("full", OUT_OF_MEMORY).fatal
    assert not CudaError("no driver").fatal
    assert CudaError("lost", 700).fatal
