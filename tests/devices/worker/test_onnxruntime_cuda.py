"""onnxruntime on a GPU: what can be seen without one, and, marked ``cuda``, what only a card shows.

Without a card, the model's buffers and turns run on onnxruntime's CPU provider with a stream that
only counts, and the driver is a scripted one in a child process.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from lutra.devices.worker.runtimes import onnxruntime_cuda
from lutra.devices.worker.runtimes.onnx_inputs import random_inputs
from lutra.devices.worker.runtimes.onnxruntime_cuda import OnnxruntimeModel, Place
from lutra.emitters.emission import Emission
from lutra.ops import MBConv, OpConfig, Shape, seeded_weights
from tests.peers.gpu.card import why_no_card, why_no_driver
from tests.peers.gpu.cuda_library import ScriptedCuda, available

BLOCK = MBConv(Shape(14, 14, 16), 16, 64, 3, 1, "h_swish", se=True, residual=True)
BIG = MBConv(Shape(112, 112, 64), 64, 256, 3, 1, "relu", se=False, residual=True)
GPU_BUILD = "CUDAExecutionProvider" in onnxruntime.get_available_providers()

# What onnxruntime-gpu 1.31.1 said of a stand-in for the driver that it took for one too old; the
# machine's name is made up.
TOO_OLD = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW,"
    " void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*,"
    " SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cudaError; bool THRW = true;"
    " SUCCTYPE = cudaError; std::conditional_t<THRW, void, common::Status> = void]"
    " /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 std::conditional_t<THRW,"
    " void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*,"
    " SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cudaError; bool THRW = true;"
    " SUCCTYPE = cudaError; std::conditional_t<THRW, void, common::Status> = void] CUDA failure 35:"
    " CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=secret ;"
    " file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=355 ;"
    " expr=cudaSetDevice(info_.device_id); "
)
# Its format of a failure (the library's own string) and of a node's, as users report them.
FAILURE = "{} ; GPU=0 ; hostname=secret ; file=/onnxruntime_src/x.cc ; line=175 ; expr=call(a, b); "
NODE = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv"
    " node. Name:'Conv_111' Status Message: {}"
)
ILLEGAL = NODE.format(FAILURE.format("CUDA failure 700: an illegal memory access was encountered"))
LAUNCH = FAILURE.format("CUDA failure 719: unspecified launch failure")
CAPTURE = FAILURE.format("CUDA failure 900: operation not permitted when stream is capturing")
ARENA = NODE.format(
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void*"
    " onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to"
    " allocate memory for requested buffer of size 939524096"
)
FULL = FAILURE.format("CUDA failure 2: out of memory")
CUBLAS_FULL = FAILURE.format("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED")
CUBLAS_FAILED = FAILURE.format("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED")
UNKNOWN_OPTION = (
    "[ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:182 Parse Unknown provider option:"
    ' "nonsense".'
)


def settings(**options: str) -> dict[str, Any]:
    return {"threads": 1, "batch": 1, "cuda": 0, "options": options}


def model_file(folder: Path, op: OpConfig = BLOCK, precision: str = "fp32") -> Path:
    path = folder / "model.onnx"
    path.write_bytes(Emission("onnx", precision).emit(op.graph, seeded_weights(op.graph)))
    return path


class CountingStream:
    """Counts what is asked of it; its clock says that each block took 6 ms."""

    handle = 0

    def __init__(self) -> None:
        self.blocks = 0
        self.waits = 0

    def milliseconds(self, work: Callable[[], None]) -> float:
        self.blocks += 1
        work()
        return 6.0

    def synchronize(self) -> None:
        self.waits += 1


class RecordingSession:
    """A real session that notes each run, and fails the next one if it is told to."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.runs: list[tuple[int, str]] = []
        self.error: Exception | None = None

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        self.runs.append((id(binding), options.get_run_config_entry("gpu_graph_id")))
        if self.error is not None:
            raise self.error
        self._session.run_with_iobinding(binding, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class OnCpu:
    """The model of `onnxruntime_cuda` with its buffers on the CPU."""

    def __init__(self, path: Path, *, buffers: int, graph: bool = False) -> None:
        self.session = RecordingSession(path)
        self.stream = CountingStream()
        self.inputs = random_inputs(self.session)
        self.model = OnnxruntimeModel(
            self.session,
            self.stream,  # type: ignore[arg-type]
            self.inputs,
            Place("cpu", 0),
            buffers=buffers,
            graph=graph,
        )

    def expected(self) -> list[Any]:
        outputs: list[Any] = self.session.run(None, self.inputs)
        return outputs


def test_runs_use_every_buffer_equally(tmp_path: Path) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=3)
    on_cpu.session.runs.clear()
    assert on_cpu.model.runs_at_once == 3
    assert on_cpu.model.milliseconds(12) == 6.0 / 12
    uses = Counter(binding for binding, _ in on_cpu.session.runs)
    assert list(uses.values()) == [4, 4, 4]
    order = [binding for binding, _ in on_cpu.session.runs]
    assert order == order[:3] * 4


def test_a_block_waits_for_nothing_but_its_end(tmp_path: Path) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=2)
    loading = on_cpu.stream.waits
    on_cpu.model.milliseconds(20)
    assert on_cpu.stream.blocks == 1
    assert on_cpu.stream.waits == loading == 1


def test_single_runs_take_turns_and_are_waited_for(tmp_path: Path) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=2)
    on_cpu.session.runs.clear()
    before = on_cpu.stream.waits
    for _ in range(4):
        on_cpu.model.run()
    order = [binding for binding, _ in on_cpu.session.runs]
    assert order == order[:2] * 2
    assert order[0] != order[1]
    assert on_cpu.stream.waits - before == 4


@pytest.mark.parametrize("runs", [0, 1, 4, -3])
def test_blocks_are_whole_turns(tmp_path: Path, runs: int) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=3)
    with pytest.raises(ValueError, match=f"{runs} runs are no multiple of 3"):
        on_cpu.model.milliseconds(runs)
    assert on_cpu.stream.blocks == 0


@pytest.mark.parametrize("graph", [False, True])
def test_every_buffer_has_a_graph_of_its_own_or_none(tmp_path: Path, graph: bool) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=3, graph=graph)
    ids = dict(on_cpu.session.runs)
    assert list(ids.values()) == (["1", "2", "3"] if graph else ["-1"] * 3)
    on_cpu.model.milliseconds(3)
    assert dict(on_cpu.session.runs) == ids
    # Loading ran, and so captured, each of them.
    assert Counter(on_cpu.session.runs[:-3]) == dict.fromkeys(ids.items(), 2)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_outputs_are_those_of_a_plain_run(tmp_path: Path, precision: str) -> None:
    on_cpu = OnCpu(model_file(tmp_path, precision=precision), buffers=2)
    for work in (lambda: on_cpu.model.milliseconds(4), on_cpu.model.run):
        work()
        (output,) = on_cpu.model.outputs().values()
        (expected,) = on_cpu.expected()
        np.testing.assert_array_equal(output, expected)
        assert np.abs(expected.astype("float32")).max() > 0


def test_unloading_lets_the_session_go(tmp_path: Path) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=2)
    on_cpu.model.unload()
    assert not hasattr(on_cpu.model, "_session")
    assert on_cpu.model.nodes is None
    assert on_cpu.model.replay is None


def test_failures_say_what_cuda_said_and_not_which_machine(tmp_path: Path) -> None:
    on_cpu = OnCpu(model_file(tmp_path), buffers=2)
    for text, brief in [
        (TOO_OLD, "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
         " in cudaSetDevice(info_.device_id)"),
        (ILLEGAL, "CUDA failure 700: an illegal memory access was encountered in call(a, b)"
         " while running Conv node. Name:'Conv_111'"),
    ]:  # fmt: skip
        on_cpu.session.error = RuntimeError(text)
        for work in (lambda: on_cpu.model.milliseconds(2), on_cpu.model.run):
            with pytest.raises(RuntimeError) as caught:
                work()
            assert str(caught.value) == brief
    on_cpu.session.error = RuntimeError(ARENA)
    with pytest.raises(RuntimeError, match="Failed to allocate memory"):
        on_cpu.model.run()


def test_outputs_need_a_fixed_shape(tmp_path: Path) -> None:
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("NonZero", ["x"], ["y"])],
        "dynamic",
        [tensor("x", onnx.TensorProto.FLOAT, [4])],
        [tensor("y", onnx.TensorProto.INT64, [1, "many"])],
    )
    path = tmp_path / "dynamic.onnx"
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(ValueError, match="output y has the dynamic shape"):
        OnCpu(path, buffers=1)


def test_the_smallest_model_is_one() -> None:
    session = onnxruntime.InferenceSession(
        onnxruntime_cuda._ONE_RELU, providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"x": np.array([-1.5], "float32")})[0].tolist() == [0.0]
    onnx.checker.check_model(onnxruntime_cuda._ONE_RELU)


@pytest.mark.parametrize(("precision", "half"), [("fp32", False), ("fp16", True), ("int8", False)])
def test_tensorrt_computes_in_half_only_what_is_half(
    tmp_path: Path, precision: str, half: bool
) -> None:
    assert onnxruntime_cuda._reads_half(str(model_file(tmp_path, precision=precision))) is half


@pytest.mark.skipif(GPU_BUILD, reason="needs a build of onnxruntime for the CPU")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_cpu_build_is_refused_with_the_remedy(tmp_path: Path, provider: str) -> None:
    for use in (
        lambda: onnxruntime_cuda.describe(settings(provider=provider)),
        lambda: onnxruntime_cuda.load(str(model_file(tmp_path)), settings(provider=provider)),
    ):
        with pytest.raises(RuntimeError) as caught:
            use()
        message = str(caught.value)
        assert "\n" not in message
        assert "ExecutionProvider; `pip uninstall -y onnxruntime onnxruntime-gpu && pip" in message


@pytest.mark.skipif(not GPU_BUILD, reason="needs onnxruntime-gpu, without a driver")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_build_without_driver_says_so(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    if why_no_driver() is None:
        pytest.skip("this machine has a driver")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # TensorRT's way; undone at the end
    with pytest.raises(RuntimeError) as caught:
        onnxruntime_cuda.describe(settings(provider=provider))
    assert "\n" not in str(caught.value)
    assert "driver" in str(caught.value)


PRELUDE = """
import json, sys, warnings
from lutra.devices.worker.runtimes import onnxruntime_cuda as runtime
def tell(value): print(json.dumps(value))
def settings(**options): return {"threads": 1, "batch": 1, "cuda": 0, "options": options}
"""


@pytest.fixture
def cuda(tmp_path: Path) -> ScriptedCuda:
    if (missing := available()) is not None:
        pytest.skip(missing)
    return ScriptedCuda(tmp_path)


def test_errors_that_end_the_process_and_those_that_do_not(cuda: ScriptedCuda) -> None:
    verdicts = {
        ILLEGAL: "fatal",
        LAUNCH: "fatal",
        CAPTURE: "fatal",
        "CUDA error cudaErrorIllegalAddress:an illegal memory access was encountered": "fatal",
        ARENA: "full",
        FULL: "full",
        CUBLAS_FULL: "full",
        "std::bad_alloc": "full",
        TOO_OLD: "",
        UNKNOWN_OPTION: "",
        CUBLAS_FAILED: "",  # what the driver says counts: it is well
        "output y has the dynamic shape ['many']; fix its sizes": "",
    }
    program = f"""
errors = [RuntimeError(text) for text in {list(verdicts)!r}]
tell([[runtime.fatal(error), runtime.out_of_memory(error)] for error in errors])
"""
    told = cuda.run(PRELUDE + program)
    expected = [[verdict == "fatal", verdict == "full"] for verdict in verdicts.values()]
    assert told == expected


def test_a_lost_context_is_found_by_asking_the_driver(cuda: ScriptedCuda) -> None:
    cuda.set(cuStreamSynchronize=719)
    program = f"tell(runtime.fatal(RuntimeError({CUBLAS_FAILED!r})))"
    assert cuda.run(PRELUDE + program) is True
    assert cuda.run(f"{PRELUDE}tell(runtime.out_of_memory(runtime.CudaError('x', 2)))") is True
    assert cuda.run(f"{PRELUDE}tell(runtime.fatal(runtime.CudaError('x', 2)))") is False


def test_providers_are_told_our_stream_and_what_fp32_means(cuda: ScriptedCuda) -> None:
    program = """
def told(name, half=False, **options):
    return runtime._provider_options(settings(**options), name, half=half)
cuda, tensorrt = "CUDAExecutionProvider", "TensorrtExecutionProvider"
tell([str(runtime._stream().handle), told(cuda), told(cuda, tf32="on", graph="on"),
      told(tensorrt), told(tensorrt, True, graph="on")])
"""
    handle, plain, fast, tensorrt, half = cuda.run(PRELUDE + program)
    for options in (plain, fast, tensorrt, half):
        assert options["user_compute_stream"] == handle != "0"
        assert options["device_id"] == "0"
    assert (plain["use_tf32"], plain["enable_cuda_graph"]) == ("0", "0")
    assert (fast["use_tf32"], fast["enable_cuda_graph"]) == ("1", "1")
    assert plain["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert (tensorrt["trt_fp16_enable"], tensorrt["trt_cuda_graph_enable"]) == ("False", "False")
    assert (half["trt_fp16_enable"], half["trt_cuda_graph_enable"]) == ("True", "True")
    assert tensorrt["trt_engine_cache_enable"] == "False"


@pytest.mark.skipif(GPU_BUILD, reason="needs a build of onnxruntime for the CPU")
def test_work_left_to_the_cpu_is_refused(cuda: ScriptedCuda) -> None:
    """The CPU build stands for a provider that does not come up: onnxruntime only warns."""
    program = """
warnings.simplefilter("ignore")
try:
    runtime._session(runtime._ONE_RELU, settings(), "CUDAExecutionProvider", half=False)
except Exception as error:
    tell([type(error).__name__, str(error)])
"""
    kind, message = cuda.run(PRELUDE + program)
    assert kind == "ValueError"
    assert "CUDAExecutionProvider does not take all of the model's operators" in message


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"version": 12040}, "it supports CUDA 12.4, and this onnxruntime-gpu"),
        ({"cuInit": 100}, "no CUDA-capable device is detected"),
        ({"devices": 0}, "no CUDA device 0, this process sees 0"),
    ],
)
def test_drivers_that_are_of_no_use(cuda: ScriptedCuda, state: dict[str, int], says: str) -> None:
    cuda.set(**state)
    program = """
runtime.onnxruntime.cuda_version = "13.0"
try:
    runtime._require_driver()
except RuntimeError as error:
    tell(str(error))
"""
    message = cuda.run(PRELUDE + program)
    assert says in message
    assert "\n" not in message


def test_a_driver_for_the_same_cuda_is_new_enough(cuda: ScriptedCuda) -> None:
    cuda.set(version=13000)
    program = 'runtime.onnxruntime.cuda_version = "13.2"\ntell(runtime._require_driver())'
    assert cuda.run(PRELUDE + program) is None


def test_a_missing_library_is_named_with_what_brings_it() -> None:
    why = onnxruntime_cuda._remedy
    said = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in why(said)
    said = "libnvinfer.so.10: cannot open shared object file: No such file or directory"
    assert "==10.*'" in why(said)


def test_one_graph_and_many_inputs_are_no_pair() -> None:
    if not GPU_BUILD:
        pytest.skip("needs onnxruntime-gpu")
    with pytest.raises(RuntimeError, match="needs inputs=same"):
        onnxruntime_cuda.describe(settings(provider="tensorrt", graph="on"))


def test_why_there_is_no_card_is_one_line() -> None:
    reason = why_no_card()
    assert reason is None or (reason and "\n" not in reason)


# What only a card shows.


@pytest.fixture
def card() -> None:
    if (reason := why_no_card("onnxruntime")) is not None:
        pytest.skip(reason)


def loaded(path: Path, **options: str) -> OnnxruntimeModel:
    return onnxruntime_cuda.load(str(path), settings(**options))


def on_the_cpu(path: Path) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, random_inputs(session))[0]


@pytest.mark.cuda
@pytest.mark.timed
@pytest.mark.usefixtures("card")
def test_card_runs_models_as_the_cpu_does(tmp_path: Path) -> None:
    assert onnxruntime_cuda.describe(settings())["delegate"] == "CUDAExecutionProvider"
    for precision, tolerance in (("fp32", 1e-4), ("fp16", 3e-2)):
        path = model_file(tmp_path, precision=precision)
        model = loaded(path)
        assert model.milliseconds(8 * model.runs_at_once) > 0
        (output,) = model.outputs().values()
        expected = on_the_cpu(path)
        np.testing.assert_allclose(output, expected, atol=tolerance * np.abs(expected).max())
        model.unload()


@pytest.mark.cuda
@pytest.mark.timed
@pytest.mark.usefixtures("card")
def test_events_agree_with_the_wall_clock(tmp_path: Path) -> None:
    """Over a block that is much longer than what it takes to queue it."""
    model = loaded(model_file(tmp_path, BIG))
    runs = 50 * model.runs_at_once
    model.milliseconds(runs)
    start = time.perf_counter()
    by_events = model.milliseconds(runs) * runs
    wall = 1e3 * (time.perf_counter() - start)
    assert 0.8 * wall < by_events <= wall
    model.unload()


@pytest.mark.cuda
@pytest.mark.timed
@pytest.mark.usefixtures("card")
def test_a_graph_computes_the_same_and_launches_faster(tmp_path: Path) -> None:
    path = model_file(tmp_path)
    delegate = onnxruntime_cuda.describe(settings(graph="on"))["delegate"]
    assert delegate == "CUDAExecutionProvider, graph"
    plain, graph = loaded(path), loaded(path, graph="on")
    times = []
    for model in (plain, graph):
        runs = 100 * model.runs_at_once
        times.append(min(model.milliseconds(runs) for _ in range(5)))
    for one, other in zip(plain.outputs().values(), graph.outputs().values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(one).max())
    assert times[1] < times[0]


@pytest.mark.cuda
@pytest.mark.timed
@pytest.mark.usefixtures("card")
def test_fp32_is_not_tf32_unless_asked_for(tmp_path: Path) -> None:
    path = model_file(tmp_path, BIG)
    expected = on_the_cpu(path)
    errors = {}
    for tf32 in ("off", "on"):
        model = loaded(path, tf32=tf32)
        (output,) = model.outputs().values()
        errors[tf32] = np.abs(output - expected).max() / np.abs(expected).max()
        model.unload()
    assert errors["off"] < 1e-5
    assert errors["on"] > 10 * errors["off"]  # cards since 2020 (Ampere) have it


@pytest.mark.cuda
@pytest.mark.timed
@pytest.mark.usefixtures("card")
def test_an_operator_for_the_cpu_alone_is_refused(tmp_path: Path) -> None:
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Det", ["x"], ["y"])],
        "cpu",
        [tensor("x", onnx.TensorProto.FLOAT, [4, 4])],
        [tensor("y", onnx.TensorProto.FLOAT, [])],
    )
    path = tmp_path / "det.onnx"
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(ValueError, match="does not take all of the model's operators"):
        loaded(path)


@pytest.mark.cuda
@pytest.mark.timed
@pytest.mark.usefixtures("card")
def test_inputs_rotate_unless_they_are_to_stay(tmp_path: Path) -> None:
    path = model_file(tmp_path)
    rotating, same = loaded(path), loaded(path, inputs="same")
    assert rotating.runs_at_once > 1
    assert same.runs_at_once == 1
