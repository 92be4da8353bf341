"""The real worker process: pinned, outlived when it dies or hangs, silent between jobs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lutra.devices.base import RequestFailure, RuntimeConfig, Sample, TimingRequest
from lutra.devices.cpu import CpuDevice, pinned_cores
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.devices.worker import system_counts
from lutra.devices.worker.runtimes import RUNTIMES, Runtime
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError, UsageError
from lutra.ops import Conv, Shape
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.workload import ModelStore, op_workload

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's signals and affinity")


@pytest.fixture
def session() -> Iterator[WorkerSession]:
    opened = CpuDevice().open(RuntimeConfig("onnxruntime"))
    assert isinstance(opened, WorkerSession)
    with opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    op = Conv(Shape(16, 16, 32), 32, kernel=3)
    return ModelStore(tmp_path).path(op_workload(op, Emission()))


@linux
def test_worker_is_pinned_to_as_many_cores_as_threads(session: WorkerSession) -> None:
    cores = psutil.Process(session.worker_pid).cpu_affinity()
    assert len(cores) == 1
    assert session.describe().core_mask == f"{1 << cores[0]:x}"


def test_more_threads_than_cores_is_refused() -> None:
    with pytest.raises(UsageError, match="--threads 4096"):
        CpuDevice().open(RuntimeConfig("onnxruntime", threads=4096))


@pytest.mark.timed
def test_idle_worker_costs_nothing(session: WorkerSession, model: Path) -> None:
    list(session.measure([TimingRequest(0, model, seconds=0.01)]))
    worker = psutil.Process(session.worker_pid)
    used: list[float] = []
    while len(used) < 3 and min(used, default=1.0) > 0.02:  # the first may see it come to rest
        before = worker.cpu_times()
        threading.Event().wait(0.5)
        after = worker.cpu_times()
        used.append((after.user + after.system) - (before.user + before.system))
    assert min(used) <= 0.02


@linux
def test_killed_worker_is_one_failure_and_a_fresh_start(
    session: WorkerSession, model: Path
) -> None:
    pid = session.worker_pid
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    requests = [
        TimingRequest(0, model, seconds=30.0),
        TimingRequest(1, model, seconds=0.01),
        TimingRequest(2, model, seconds=0.01),
    ]
    first, second, third = session.measure(requests)
    assert isinstance(first, RequestFailure)
    assert first.kind == "crash"
    assert first.transient
    assert "signal 9" in first.message
    assert isinstance(second, Sample)
    assert isinstance(third, Sample)
    assert second.process == 2
    assert session.worker_pid != pid


@pytest.mark.timed
@linux
def test_hanging_worker_is_killed_after_the_limit(session: WorkerSession, model: Path) -> None:
    os.kill(session.worker_pid, signal.SIGSTOP)
    first, second = session.measure(
        [TimingRequest(0, model, limit_seconds=0.5), TimingRequest(1, model, seconds=0.01)]
    )
    assert isinstance(first, RequestFailure)
    assert first.kind == "timeout"
    assert isinstance(second, Sample)


@linux
def test_no_worker_survives_its_session(model: Path) -> None:
    with CpuDevice().open(RuntimeConfig("onnxruntime")) as session:
        assert isinstance(session, WorkerSession)
        pid = session.worker_pid
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08" * 1000])
def test_corrupt_model_is_a_permanent_failure(
    session: WorkerSession, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "corrupt.onnx"
    path.write_bytes(content)
    (outcome,) = session.measure([TimingRequest(0, path)])
    assert isinstance(outcome, RequestFailure)
    assert outcome.kind == "load"
    assert not outcome.transient
    assert "\n" not in outcome.message


def test_runtime_that_does_not_load_is_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "gone", Runtime("onnx", "no.such.module", "no", "gone"))
    with (
        CpuDevice().open(RuntimeConfig("gone")) as session,
        pytest.raises(PermanentDeviceError, match="gone"),
    ):
        session.describe()


def test_worker_speaks_json_lines_and_ends_with_its_input(model: Path) -> None:
    requests = [
        {
            "do": "open",
            "runtime": "onnxruntime",
            "module": RUNTIMES["onnxruntime"].module,
            "install": RUNTIMES["onnxruntime"].install,
            "cores": [],
            "threads": 1,
            "options": {},
            "cuda": None,
        },
        {
            "do": "time",
            "id": 1,
            "model": str(model),
            "seconds": 0.01,
            "warmup_seconds": 0.01,
            "block_seconds": 0.001,
            "keep": False,
            "min_blocks": 5,
            "memory": False,
        },
        {"do": "dance"},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "lutra.devices.worker"],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    opened, timed, unknown = map(json.loads, done.stdout.splitlines())
    assert opened["version"]
    assert min(timed["block_ms"]) > 0
    assert len(timed["block_ms"]) >= 5
    assert not unknown["ok"]


def test_models_stay_loaded_while_there_is_room(session: WorkerSession, model: Path) -> None:
    assert session.keeps_models
    request = TimingRequest(0, model, seconds=0.001, keep=True)
    first, again = (outcome for _ in range(2) for outcome in session.measure([request]))
    assert isinstance(first, Sample)
    assert isinstance(again, Sample)
    assert again.load_seconds < 1e-4 < first.load_seconds


@pytest.mark.parametrize(
    ("meminfo", "group", "room"),
    [
        ("MemTotal: 100 kB\nMemAvailable: 60 kB\n", None, True),
        ("MemTotal: 100 kB\nMemAvailable: 20 kB\n", None, False),
        ("MemTotal: 100 kB\nMemAvailable: 60 kB\n", ("max", "10"), True),
        ("MemTotal: 100 kB\nMemAvailable: 60 kB\n", ("40", "10"), True),
        ("MemTotal: 100 kB\nMemAvailable: 60 kB\n", ("40", "30"), False),
        ("nothing known", None, False),
    ],
)
def test_room_is_what_the_kernel_and_the_container_leave(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    meminfo: str,
    group: tuple[str, str] | None,
    room: bool,
) -> None:
    (tmp_path / "meminfo").write_text(meminfo)
    for name, value in zip(("memory.max", "memory.current"), group or (), strict=False):
        (tmp_path / name).write_text(value)
    monkeypatch.setattr(system_counts, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(system_counts, "_GROUP_MEMORY", tmp_path)
    assert system_counts.has_room() == room


@contextlib.contextmanager
def busy_process(core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps a core busy."""
    busy = f"import os; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@linux
@pytest.mark.timed
def test_a_new_table_gets_the_quickest_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores to choose from")
    for busy in cores[-1], cores[0]:
        with busy_process(busy):
            pinned, held = pinned_cores(RuntimeConfig("onnxruntime"))
            held.close()
            assert busy not in pinned
    assert os.sched_getaffinity(0) == set(cores)


@linux
@pytest.mark.timed
def test_a_competitor_on_the_core_shows(session: WorkerSession, model: Path) -> None:
    request = TimingRequest(0, model, seconds=0.2)
    (alone,) = session.measure([request])
    (core,) = psutil.Process(session.worker_pid).cpu_affinity()
    with busy_process(core) as competitor:
        (beside,) = session.measure([request])
        named = CpuDevice().health().other_processes
    assert isinstance(alone, Sample)
    assert isinstance(beside, Sample)
    assert alone.system is not None
    assert beside.system is not None
    assert alone.system.waited_share < 0.2 < beside.system.waited_share < 0.9
    assert beside.system.preemptions > alone.system.preemptions
    assert beside.system.others_cores > 0.2
    assert visit_from_sample(beside, 1, 1).flags == ("shared",)
    assert any(f"pid {competitor.pid}" in name for name in named)


@linux
def test_time_is_stolen_from_the_cores_of_this_process_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(system_counts, "_STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    rate = os.sysconf("SC_CLK_TCK")
    seen = []
    for others, ours in ((0, 0), (9, 0), (9, 2)):  # seconds
        lines = [("cpu", others + ours), ("cpu0", others), ("cpu1", ours)]
        stat.write_text("".join(f"{name} 0 0 0 0 0 0 0 {n * rate} 0 0\n" for name, n in lines))
        seen.append(system_counts._machine_seconds())
    assert seen == [(0, 0), (0, 0), (0, 2)]


def test_a_kernel_that_does_not_count_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert (system_counts.SystemCounts().since(1) is not None) == (sys.platform == "linux")
    monkeypatch.setattr(system_counts, "_SCHEDSTAT", tmp_path / "schedstat")
    assert system_counts.SystemCounts().since(1) is None


@pytest.mark.timed
def test_measuring_takes_about_the_time_asked_for(session: WorkerSession, model: Path) -> None:
    session.describe()
    (outcome,) = session.measure([TimingRequest(0, model, seconds=0.2)])
    assert isinstance(outcome, Sample)
    assert 0.2 <= outcome.timed_seconds < 2.0
    assert outcome.busy_seconds >= outcome.timed_seconds
