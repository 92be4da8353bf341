"""Every runtime in a real worker: what it says of itself, its options, its failures."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.base import (
    Outcome,
    RequestFailure,
    RuntimeConfig,
    Sample,
    Session,
    TimingRequest,
)
from lutra.devices.cpu import CpuDevice
from lutra.devices.registry import format_of
from lutra.devices.sessions.runtimes import installed_runtimes
from lutra.devices.worker.runtimes import RUNTIMES, Runtime, load_runtime
from lutra.devices.worker.runtimes.inputs import random_input
from lutra.devices.worker.runtimes.interpreter import check, count_nodes
from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.torch import emit_torch
from lutra.errors import PermanentDeviceError, UsageError
from lutra.ops import MBConv, OpConfig, Shape, seeded_weights
from lutra.profiler.bench import Bench, open_bench, runtime_config_of
from lutra.profiler.workload import op_workload
from tests.tflite_runtimes import INTERPRETERS

BLOCK = MBConv(Shape(14, 14, 16), 16, 64, 3, 1, "h_swish", se=True, residual=True)


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if isinstance(reason := INTERPRETERS.get(name), str):
        pytest.skip(reason)
    return name


@pytest.fixture(scope="module")
def bench(runtime: str) -> Iterator[Bench]:
    """One worker of each runtime for all tests that can share it: some import for seconds."""
    with open_bench(CpuDevice(), RuntimeConfig(runtime)) as opened:
        yield opened


def model_file(folder: Path, emission: Emission, op: OpConfig = BLOCK) -> Path:
    path = folder / f"model.{emission.format}"
    path.write_bytes(emission.emit(op.graph, seeded_weights(op.graph)))
    return path


def measure(config: RuntimeConfig, *models: Path) -> list[Outcome]:
    with CpuDevice().open(config) as session:
        return measure_in(session, *models)


def measure_in(session: Session, *models: Path) -> list[Outcome]:
    requests = [TimingRequest(number, path, 0.01) for number, path in enumerate(models)]
    return list(session.measure(requests))


def test_every_precision_of_every_runtime(runtime: str, bench: Bench, tmp_path: Path) -> None:
    for precision in FORMATS[format_of(runtime)]:
        emission = Emission(format_of(runtime), precision)
        (outcome,) = measure_in(bench.session, model_file(tmp_path, emission))
        assert isinstance(outcome, Sample), outcome
        assert min(outcome.block_ms) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc tells")
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "tflite-runtime"], indirect=True)
def test_memory_is_features_and_weights_and_what_the_runtime_adds(runtime: str) -> None:
    """A block of wide feature maps, and one of many weights: each process grows by at least both.

    A tenth less is allowed for what freed memory of the imports serves again.
    """
    features = MBConv(Shape(224, 224, 16), 16, 64, 3, 1, "h_swish", se=False, residual=True)
    weights = MBConv(Shape(7, 7, 512), 512, 3072, 3, 1, "h_swish", se=False, residual=True)
    running = []
    with open_bench(CpuDevice(), RuntimeConfig(runtime)) as bench:
        for op in (BLOCK, features, weights):
            workload = op_workload(op, bench.emission)
            found = bench.process_memory(workload, 60.0)
            assert found is not None
            assert found.running_bytes is not None
            assert found.running_bytes <= found.peak_bytes
            alive = 4 * op.peak_activation_elements + bench.store.path(workload).stat().st_size
            assert 0.9 * alive <= found.running_bytes <= 5 * alive + (24 << 20)
            running.append(found.running_bytes)
    most_alive = 4 * features.peak_activation_elements
    assert most_alive > 20e6
    assert running[1] - running[0] >= 0.9 * most_alive


def test_batch(runtime: str, tmp_path: Path) -> None:
    emission = Emission(format_of(runtime), batch=4)
    (outcome,) = measure(RuntimeConfig(runtime, batch=4), model_file(tmp_path, emission))
    assert isinstance(outcome, Sample), outcome


def test_target_names_runtime_version_and_delegate(runtime: str, bench: Bench) -> None:
    target = bench.target
    assert target.runtime == runtime
    assert target.runtime_version[0].isdigit()
    expected = {"onnxruntime": "CPUExecutionProvider", "torch": "eager"}
    assert target.delegate == expected.get(runtime, "XNNPACK")
    assert target.options == ""


def test_a_broken_model_is_a_failure_and_the_next_one_runs(
    runtime: str, bench: Bench, tmp_path: Path
) -> None:
    emission = Emission(format_of(runtime))
    good = model_file(tmp_path, emission)
    bad = []
    for share in (0.0, 0.5, 0.9):
        path = tmp_path / f"bad-{share}.{emission.format}"
        path.write_bytes(good.read_bytes()[: int(share * good.stat().st_size)])
        bad.append(path)
    *failures, last = measure_in(bench.session, *bad, good)
    for failure in failures:
        assert isinstance(failure, RequestFailure)
        assert "\n" not in failure.message
    assert isinstance(last, Sample), last


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"], indirect=True)
def test_xnnpack_takes_nodes_unless_it_is_off(runtime: str, bench: Bench, tmp_path: Path) -> None:
    model = model_file(tmp_path, Emission("tflite"))
    (on,) = measure_in(bench.session, model)
    (off,) = measure(RuntimeConfig(runtime, options={"xnnpack": "off"}), model)
    assert isinstance(on, Sample)
    assert isinstance(off, Sample)
    assert on.nodes == (11, 11)
    assert off.nodes == (11, 0)


@pytest.mark.parametrize("runtime", ["litert"], indirect=True)
def test_litert_leaves_int8_h_swish_to_its_own_kernels(bench: Bench, tmp_path: Path) -> None:
    (outcome,) = measure_in(bench.session, model_file(tmp_path, Emission("tflite", "int8")))
    assert isinstance(outcome, Sample)
    assert outcome.nodes == (11, 9)


def test_options_are_part_of_the_target_and_survive_in_it() -> None:
    config = RuntimeConfig("litert", options={"xnnpack": "off"})
    with open_bench(CpuDevice(), config) as bench:
        assert bench.target.options == "xnnpack=off"
        assert bench.target.delegate == "none"
        assert runtime_config_of(bench.target) == replace(config, core_mask=bench.target.core_mask)


def test_a_default_spelled_out_is_the_default() -> None:
    with open_bench(CpuDevice(), RuntimeConfig("litert", options={"xnnpack": "on"})) as bench:
        assert bench.target.options == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [({"xnnpack": "maybe"}, "xnnpack=on|off"), ({"turbo": "on"}, "litert has no option")],
)
def test_unknown_options(options: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        CpuDevice().open(RuntimeConfig("litert", options=options))
    assert says in str(caught.value)


def test_missing_package_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lacking.py").write_text("import no_such_package_of_anyone\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        RUNTIMES,
        "lacking",
        Runtime("onnx", "lacking", "no_such_package_of_anyone", "'lutra[lacking]'"),
    )
    with pytest.raises(ImportError, match=r"no_such_package_of_anyone.*lutra\[lacking\]"):
        load_runtime("lacking", "'lutra[lacking]'")
    assert "lacking" not in installed_runtimes()


@pytest.mark.skipif(
    INTERPRETERS["tflite-runtime"] != "tflite-runtime does not work with numpy 2"
    or "tflite-runtime" not in installed_runtimes(),
    reason="needs tflite-runtime beside numpy 2: the second environment of .ci/run",
)
def test_tflite_runtime_beside_numpy_2_is_one_line_with_the_fix() -> None:
    with (
        CpuDevice().open(RuntimeConfig("tflite-runtime")) as session,
        pytest.raises(PermanentDeviceError, match=r"numpy 2.*pip install 'numpy<2'") as caught,
    ):
        session.describe()
    assert "\n" not in str(caught.value)


def test_checking_constructs_an_interpreter() -> None:
    def refuse(model_content: bytes) -> None:
        assert model_content[4:8] == b"TFL3"
        raise SystemError("returned a result with an exception set")

    with pytest.raises(SystemError):
        check(SimpleNamespace(Interpreter=refuse))


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_torch_keeps_freed_memory(tmp_path: Path) -> None:
    """Page faults of most forwards, in a process of its own: next to none after the first runs."""
    big = MBConv(Shape(112, 112, 24), 24, 96, 3, 1, "relu", se=False, residual=True)
    path = model_file(tmp_path, Emission("torch"), big)
    program = f"""
import resource
from lutra.devices.worker.runtimes import torch as runtime
model = runtime.load({str(path)!r}, {{"threads": 1, "options": {{}}}})
for _ in range(20): model.run()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
seen = []
for _ in range(11):
    before = faults()
    model.run()
    seen.append(faults() - before)
print(sorted(seen)[5])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert float(done.stdout) < 100


@pytest.mark.parametrize("runtime", ["torch"], indirect=True)
def test_a_torch_file_runs_no_code(bench: Bench, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("gotcha",))

    hostile = tmp_path / "hostile.torch"
    hostile.write_bytes(pickle.dumps(Malicious()))
    packed = tmp_path / "packed.torch"
    torch.save({"lutra_torch": 1, "nodes": Malicious()}, packed)
    other = tmp_path / "other.torch"
    torch.save({"weights": {}}, other)
    for outcome in measure_in(bench.session, hostile, packed, other):
        assert isinstance(outcome, RequestFailure)
        assert outcome.kind == "load"


def test_torch_metadata_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.torch"
    graph = BLOCK.graph
    path.write_bytes(emit_torch(graph, seeded_weights(graph), metadata={"weights": "random"}))
    assert torch.load(path, weights_only=True)["metadata"] == {"weights": "random"}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_torch_compile(tmp_path: Path) -> None:
    config = RuntimeConfig("torch", options={"compile": "on"})
    with CpuDevice().open(config) as session:
        assert session.describe().delegate == "inductor"
        path = model_file(tmp_path, Emission("torch"))
        (outcome,) = session.measure([TimingRequest(0, path, 0.01, limit_seconds=200.0)])
    assert isinstance(outcome, Sample), outcome


@given(
    st.lists(st.integers(1, 5), max_size=4),
    st.sampled_from(["float32", "float16", "int8", "uint8", "int32", "int64", "bool"]),
)
def test_random_input_has_the_shape_and_type_asked_for(shape: list[int], dtype: str) -> None:
    array = random_input(shape, dtype)
    assert array.shape == tuple(shape)
    assert array.dtype == np.dtype(dtype)


@pytest.mark.parametrize("shape", [[0, 3], [-1, 3], ["N", 3], [None]])
def test_open_sizes_are_refused(shape: list[object]) -> None:
    with pytest.raises(ValueError, match="not all numbers above 0"):
        random_input(shape, "float32")


def test_nodes_of_a_partly_delegated_model() -> None:
    def node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
        return {"op_name": name, "inputs": inputs, "outputs": outputs}

    operators = [
        node("CONV_2D", [0, 10], [1]),
        node("HARD_SWISH", [1], [2]),
        node("CONV_2D", [2, 11], [3]),
        node("ADD", [3, 1], [4]),
        node("DELEGATE", [0, 10], [1]),
        node("DELEGATE", [2, 1, 11], [4]),
    ]
    assert count_nodes(operators) == (4, 3)
