"""Several devices at once: whatever one does, the others never notice."""

from __future__ import annotations

import _thread
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.base import Device
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import DeviceError, UsageError
from lutra.profiler import several_devices
from lutra.profiler.record import RunSummary
from lutra.profiler.several_devices import Job, JobResult, profile_devices, tables_in
from lutra.profiler.watch import Progress, Watch
from tests.toys import install_toys

PROGRESS = Progress(1, 2, 1.0)


@pytest.fixture(autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    install_toys(tmp_path_factory.mktemp("toys"), monkeypatch)


def jobs(*addresses: str, watch: Watch | None = None) -> list[Job]:
    return [Job(f"toy:{name}", Path(f"{name}.lut"), watch or Watch()) for name in addresses]


@given(st.text(min_size=1, max_size=400))
def test_no_spec_leads_out_of_the_folder(spec: str) -> None:
    folder = Path("/some/folder")
    (table,) = tables_in(folder, [spec])
    assert table.parent == folder
    assert table.name.endswith(".lut")
    assert len(table.name) < 240
    assert set(table.name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )


def test_tables_are_named_by_their_devices() -> None:
    tables = tables_in(Path("f"), ["adb:R58M 1/2;x", "ssh:pi@10.0.0.2:22", "cpu"])
    assert [table.name for table in tables] == [
        "adb_R58M_1_2_x.lut",
        "ssh_pi_10.0.0.2_22.lut",
        "cpu.lut",
    ]


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        (["cpu", "adb:1", "cpu"], "cpu is given twice"),
        (["adb:a b", "adb:a;b"], "would share the table adb_a_b.lut"),
        (["adb:a", "adb:A"], "would share"),
        ([f"adb:{'x' * 300}y", f"adb:{'x' * 300}z"], "would share"),
    ],
)
def test_devices_never_share_a_table(specs: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        tables_in(Path("f"), specs)


def test_all_run_at_once_and_results_are_in_the_order_of_the_jobs() -> None:
    meeting = threading.Barrier(3, timeout=100)
    last_first = {"a": 0.2, "b": 0.1, "c": 0.0}

    def measure(device: Device, table: Path, watch: Watch) -> RunSummary:
        meeting.wait()
        time.sleep(last_first[table.stem])
        return RunSummary(workloads=ord(table.stem))

    ended: list[JobResult] = []
    results = profile_devices(jobs("a", "b", "c"), measure, on_result=ended.append)
    assert [result.job.spec for result in results] == ["toy:a", "toy:b", "toy:c"]
    assert [result.summary and result.summary.workloads for result in results] == [97, 98, 99]
    assert sorted(result.job.spec for result in ended) == ["toy:a", "toy:b", "toy:c"]


@pytest.mark.parametrize("error", [DeviceError("gone"), OSError("full"), ZeroDivisionError("bug")])
def test_an_error_is_the_result_of_its_own_device(error: Exception) -> None:
    def measure(device: Device, table: Path, watch: Watch) -> RunSummary:
        watch.on_progress(PROGRESS)
        if table.stem == "b":
            raise error
        return RunSummary(workloads=1)

    good, bad, also_good = profile_devices(jobs("a", "b", "c"), measure)
    assert bad.error is error
    assert bad.summary is None
    for result in (good, also_good):
        assert result.error is None
        assert result.summary == RunSummary(workloads=1)


def test_a_device_that_cannot_be_opened_does_not_stop_the_others() -> None:
    wrong = [Job("fake:no", Path("x.lut")), Job("nonsense", Path("y.lut"))]
    results = profile_devices([*wrong, *jobs("a")], lambda *_: RunSummary())
    assert [str(result.error)[:14] for result in results] == [
        "the spec is pl",
        "unknown device",
        "None",
    ]


def test_one_device_by_two_names_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """``adb`` and ``adb:SERIAL``, say: two runs on one phone would slow each other down."""
    monkeypatch.setattr(several_devices, "open_device", lambda spec: FakeDevice(FakeScript()))
    results = profile_devices(jobs("a", "b"), lambda *_: RunSummary())
    (error,) = [str(result.error) for result in results if result.error]
    assert "it is the device that is measured as toy:" in error


def test_a_watch_is_told_everything_but_pauses_as_it_is_told() -> None:
    seen: list[object] = []
    watch = Watch(
        on_ready=seen.append,
        on_progress=seen.append,
        sleep=lambda _: pytest.fail("the job's own sleep"),
    )

    def measure(device: Device, table: Path, watch: Watch) -> RunSummary:
        watch.on_progress(PROGRESS)
        watch.sleep(0.01)
        return RunSummary()

    (result,) = profile_devices(jobs("a", watch=watch), measure)
    assert result.error is None
    assert seen == [PROGRESS]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_all_in_order() -> None:
    """One is at a visit, one in a long pause: both let go of what they hold, and are waited for."""
    running = threading.Barrier(2, timeout=100)
    let_go: list[str] = []

    def measure(device: Device, table: Path, watch: Watch) -> RunSummary:
        running.wait()
        if table.stem == "a":
            _thread.interrupt_main()
        try:
            while True:
                if table.stem == "a":
                    watch.on_progress(PROGRESS)
                    time.sleep(0.01)
                else:
                    watch.sleep(300.0)
        finally:
            time.sleep(0.1)
            let_go.append(table.stem)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        profile_devices(jobs("a", "b"), measure)
    assert sorted(let_go) == ["a", "b"]
    assert time.monotonic() - started < 100  # the pause is of 300
