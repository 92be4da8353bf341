"""What a GPU says of itself: the real pynvml, on a driver's library that does as it is told."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.devices.worker import nvml
from lutra.devices.worker.nvml import (
    Gpu,
    NoGpu,
    OtherProcesses,
    list_gpus,
    slowed,
    throttle_reasons,
)
from tests.peers.gpu.scripted import SONAME, ScriptedGpu

SOURCE = Path(nvml.__file__).read_text(encoding="utf-8")
DESKTOP: dict[str, object] = {
    "name": "NVIDIA GeForce RTX 3060 Laptop GPU",
    "compute_capability": "8.6",
    "driver": "470.256.02",
    "cuda_version": 11040,
    "power_limit_mw": None,
    "throttle": "4",
    "memory_total": 6 << 30,
    "memory_free": 5 << 30,
    "processes": "900:-,77:314572800",
    "names": "77:/usr/bin/python3",
    "nvmlDeviceGetCurrentClocksEventReasons": 13,
    "nvmlDeviceGetTemperatureV": 13,
    "nvmlDeviceGetComputeRunningProcesses_v3": 13,
}
shared = settings(max_examples=50)


@pytest.fixture
def gpu(scripted_gpu: ScriptedGpu) -> Iterator[Gpu]:
    opened = Gpu(0)
    yield opened
    opened.close()


def elsewhere(code: str, *arguments: str, environment: dict[str, str] | None = None) -> Any:
    """What a child prints that is given the code, as another machine's Python is."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code, *arguments],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def has_driver() -> bool:
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        return False
    return True


def test_facts(gpu: Gpu) -> None:
    assert gpu.facts() == {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-00000000-1111-2222-3333-444444444444",
        "driver": "580.65.06",
        "cuda_driver_version": "13.0",
        "compute_capability": "9.0",
        "cores": 16896,
        "memory_bytes": 80 << 30,
        "max_clock_mhz": 1980,
    }


def test_the_state_of_a_server_card(gpu: Gpu) -> None:
    assert gpu.state() == {
        "clock_mhz": 1755,
        "max_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "power_w": 310.5,
        "power_limit_w": 700.0,
        "temperature_c": 41,
        "utilization_percent": 0,
        "free_bytes": 79 << 30,
        "throttle_reasons": [],
        "processes": [],
    }


def test_a_laptop_with_an_older_driver(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    scripted_gpu.set(**DESKTOP)
    assert gpu.facts()["cuda_driver_version"] == "11.4"
    state = gpu.state()
    assert state["power_limit_w"] is None
    assert state["temperature_c"] == 41
    assert state["throttle_reasons"] == ["sw power cap"]
    assert state["processes"] == [
        {"pid": 77, "name": "/usr/bin/python3", "memory_bytes": 300 << 20},
        {"pid": 900, "name": None, "memory_bytes": None},
    ]


def test_each_reading_is_of_now(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    readings = []
    for clock in (1980, 345):
        scripted_gpu.set(clock_mhz=clock)
        readings.append(gpu.clock_mhz())
    assert readings == [1980, 345]


@pytest.mark.parametrize("code", [3, 4, 13, 17, 999])
@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("nvmlDeviceGetName", {"name"}),
        ("nvmlDeviceGetUUID", {"uuid"}),
        ("nvmlSystemGetDriverVersion", {"driver"}),
        ("nvmlSystemGetCudaDriverVersion", {"cuda_driver_version"}),
        ("nvmlDeviceGetCudaComputeCapability", {"compute_capability"}),
        ("nvmlDeviceGetNumGpuCores", {"cores"}),
        ("nvmlDeviceGetMemoryInfo", {"memory_bytes", "free_bytes"}),
        ("nvmlDeviceGetMaxClockInfo", {"max_clock_mhz"}),
        ("nvmlDeviceGetClockInfo", {"clock_mhz", "memory_clock_mhz"}),
        ("nvmlDeviceGetPowerUsage", {"power_w"}),
        ("nvmlDeviceGetUtilizationRates", {"utilization_percent"}),
    ],
)
def test_what_cannot_be_read_is_none(
    scripted_gpu: ScriptedGpu, gpu: Gpu, function: str, fields: set[str], code: int
) -> None:
    scripted_gpu.set(**{function: code})
    told = {**gpu.facts(), **gpu.state()}
    assert {name for name, value in told.items() if value is None} == fields
    json.dumps(told)


@pytest.mark.parametrize(
    ("functions", "field", "unknown"),
    [
        ("nvmlDeviceGetTemperature,nvmlDeviceGetTemperatureV", "temperature_c", None),
        (
            "nvmlDeviceGetEnforcedPowerLimit,nvmlDeviceGetPowerManagementLimit",
            "power_limit_w",
            None,
        ),
        (
            "nvmlDeviceGetCurrentClocksEventReasons,nvmlDeviceGetCurrentClocksThrottleReasons",
            "throttle_reasons",
            [],
        ),
        ("nvmlDeviceGetComputeRunningProcesses", "processes", []),
    ],
)
def test_a_second_function_is_asked_before_it_is_unknown(
    scripted_gpu: ScriptedGpu, gpu: Gpu, functions: str, field: str, unknown: object
) -> None:
    scripted_gpu.set(throttle="40", processes="1:2")
    known = gpu.state()[field]
    assert known
    first = functions.partition(",")[0]
    scripted_gpu.set(unsupported=first if "," in functions else f"{first}_v3")
    assert gpu.state()[field] == known
    scripted_gpu.set(unsupported=functions)
    assert gpu.state()[field] == unknown


def test_a_driver_without_any_list_of_processes(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    name = "nvmlDeviceGetComputeRunningProcesses"
    scripted_gpu.set(**{f"{name}_v3": 13, f"{name}_v2": 13})
    assert gpu.processes() == []


def test_an_older_pynvml(
    scripted_gpu: ScriptedGpu, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_gpu.set(throttle="8", processes="1:2")
    new = gpu.facts(), gpu.state()
    for name in (
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetTemperatureV",
        "NVMLLibraryMismatchError",
    ):
        monkeypatch.delattr(pynvml, name)
    monkeypatch.delattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v2")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: b"NVIDIA H100 80GB HBM3")
    assert (gpu.facts(), gpu.state()) == new


@shared
@given(st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\0\n\r,")))
def test_a_process_may_have_any_name(scripted_gpu: ScriptedGpu, gpu: Gpu, name: bytes) -> None:
    scripted_gpu.set(processes="7:1", names="7:" + name.decode("utf-8", "surrogateescape"))
    (process,) = gpu.processes()
    assert process["name"] is None or process["name"].isprintable()
    json.dumps(process)


@given(st.integers(0, 2**64 - 1))
def test_throttle_reasons_are_those_that_hold_back(mask: int) -> None:
    names = throttle_reasons(mask)
    assert len(names) == (mask & 0xFC).bit_count()
    assert slowed(names) == bool(mask & 0xE8)
    assert names == throttle_reasons(mask | 0x103)  # idle, and clocks as they were set


def test_every_throttle_reason_of_the_driver(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    expected = {
        pynvml.nvmlClocksEventReasonSwPowerCap: ("sw power cap", False),
        pynvml.nvmlClocksEventReasonSyncBoost: ("sync boost", False),
        pynvml.nvmlClocksThrottleReasonHwSlowdown: ("hw slowdown", True),
        pynvml.nvmlClocksEventReasonSwThermalSlowdown: ("sw thermal slowdown", True),
        pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: ("hw thermal slowdown", True),
        pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: ("hw power brake", True),
    }
    for mask, (name, is_slowed) in expected.items():
        scripted_gpu.set(throttle=f"{mask:x}")
        assert gpu.throttle_reasons() == [name]
        assert slowed([name]) is is_slowed


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (4, "driver", "/dev/nvidia"),
        (9, "driver", "not loaded: `sudo modprobe nvidia`"),
        (12, "driver", "no NVIDIA driver on this machine"),
        (13, "driver", "too old"),
        (15, "gpu", "fallen off the bus; reboot the host"),
        (18, "driver", "different versions, as after an update: reboot"),
        (999, "driver", r"Unknown Error \(NVML error 999\)"),
        (1234, "driver", "scripted error 1234"),
    ],
)
def test_a_driver_that_does_not_start(
    scripted_gpu: ScriptedGpu, code: int, kind: str, says: str
) -> None:
    scripted_gpu.set(init=code)
    for attempt in (lambda: Gpu(0), list_gpus):
        with pytest.raises(NoGpu, match=says) as caught:
            attempt()
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)
    told = elsewhere(SOURCE, "0", environment=scripted_gpu.environment())
    assert told == {"error": str(caught.value), "kind": kind}


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
def test_this_machine_has_no_driver(tmp_path: Path) -> None:
    with pytest.raises(NoGpu, match=r"libnvidia-ml\.so\.1 is missing") as caught:
        Gpu(0)
    assert elsewhere(SOURCE) == {"error": str(caught.value), "kind": "driver"}
    with ScriptedGpu(tmp_path).loaded():
        left_open = Gpu(0)
        assert left_open.clock_mhz()
    with pytest.raises(NoGpu, match="missing"):
        list_gpus()


def test_without_pynvml(scripted_gpu: ScriptedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoGpu, match="pip install nvidia-ml-py") as caught:
        Gpu(0)
    assert caught.value.kind == "package"
    without = f"import sys; sys.modules['pynvml'] = None; exec({SOURCE!r})"
    assert elsewhere(without)["kind"] == "package"


@pytest.mark.parametrize(
    ("gpus", "index", "says"),
    [(2, 3, "there is no GPU 3; this machine has 0, 1"), (1, -1, "no GPU -1"), (0, 0, "has none")],
)
def test_a_gpu_that_is_not_there(
    scripted_gpu: ScriptedGpu, gpus: int, index: int, says: str
) -> None:
    scripted_gpu.set(gpus=gpus)
    with pytest.raises(NoGpu, match=says) as caught:
        Gpu(index)
    assert caught.value.kind == "gpu"
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


@pytest.mark.parametrize("reading", ["facts", "state", "clock_mhz", "pids", "throttle_reasons"])
def test_a_gpu_that_is_lost_midway(scripted_gpu: ScriptedGpu, gpu: Gpu, reading: str) -> None:
    getattr(gpu, reading)()
    scripted_gpu.set(lost=1)
    with pytest.raises(NoGpu, match="fallen off the bus") as caught:
        getattr(gpu, reading)()
    assert caught.value.kind == "gpu"
    gpu.close()
    with pytest.raises(NoGpu, match="fallen off the bus"):
        Gpu(0)


@pytest.mark.parametrize("code", [1, 9, 16, 18, 28])
def test_other_errors_that_end_all_reading(scripted_gpu: ScriptedGpu, gpu: Gpu, code: int) -> None:
    scripted_gpu.set(nvmlDeviceGetClockInfo=code)
    with pytest.raises(NoGpu):
        gpu.clock_mhz()


def test_all_gpus(scripted_gpu: ScriptedGpu) -> None:
    scripted_gpu.set(gpus=3, name_1="NVIDIA A2", uuid_1="GPU-1")
    assert [(one["index"], one["name"]) for one in list_gpus()] == [
        (0, "NVIDIA H100 80GB HBM3"),
        (1, "NVIDIA A2"),
        (2, "NVIDIA H100 80GB HBM3"),
    ]
    scripted_gpu.set(lost_0=1)
    assert [one["index"] for one in list_gpus()] == [1, 2]
    scripted_gpu.set(lost=1)
    with pytest.raises(NoGpu, match="fallen off the bus"):
        list_gpus()
    scripted_gpu.set(gpus=0)
    assert list_gpus() == []


def test_closing_one_leaves_the_others(scripted_gpu: ScriptedGpu) -> None:
    first, second = Gpu(0), Gpu(0)
    first.close()
    first.close()
    assert second.clock_mhz() == 1755
    second.close()
    with pytest.raises(NoGpu, match="Uninitialized"):
        second.clock_mhz()


def test_others_where_our_own_number_is_listed(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    scripted_gpu.set(processes="50:1")
    others = OtherProcesses(gpu)
    assert [one["pid"] for one in others.now()] == [50]
    scripted_gpu.set(own=1, processes="50:1,60:1")  # 60 came while our context was made
    others.note_own(os.getpid())
    assert [one["pid"] for one in others.now()] == [50, 60]


def test_others_in_a_container(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    scripted_gpu.set(processes="50:1")
    others = OtherProcesses(gpu)
    scripted_gpu.set(processes="50:1,4711:1")
    others.note_own(7)
    assert [one["pid"] for one in others.now()] == [50]
    scripted_gpu.set(processes="4711:1,4712:-", names="4712:train")
    assert others.now() == [{"pid": 4712, "name": "train", "memory_bytes": None}]


def test_another_with_our_number_in_the_container(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    scripted_gpu.set(processes="7:1")
    others = OtherProcesses(gpu)
    scripted_gpu.set(processes="7:1,4711:1")
    others.note_own(7)
    assert [one["pid"] for one in others.now()] == [7]


def test_nobody_is_listed_where_processes_are_not(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    scripted_gpu.set(processes=None)
    others = OtherProcesses(gpu)
    others.note_own(os.getpid())
    assert others.now() == []


pids = st.frozensets(st.integers(1, 9), max_size=5)


@shared
@given(pids, pids, pids, st.integers(1, 9))
def test_who_was_there_before_is_another(
    scripted_gpu: ScriptedGpu,
    gpu: Gpu,
    before: frozenset[int],
    others: frozenset[int],
    later: frozenset[int],
    own: int,
) -> None:
    def listed(running: frozenset[int]) -> str:
        return ",".join(f"{pid}:1" for pid in running)

    before, later = before - {own}, later - {own}
    scripted_gpu.set(processes=listed(before))
    watched = OtherProcesses(gpu)
    scripted_gpu.set(processes=listed(before | others | {own}))
    watched.note_own(own)
    scripted_gpu.set(processes=listed(later | {own}))
    assert {one["pid"] for one in watched.now()} == later


def test_on_another_machine(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    scripted_gpu.set(gpus=2, throttle="60")
    environment = scripted_gpu.environment()
    assert elsewhere(SOURCE, environment=environment) == {"gpus": list_gpus()}
    told = elsewhere(SOURCE, "0", environment=environment)
    assert told == {"facts": gpu.facts(), "state": gpu.state()}
    assert slowed(told["state"]["throttle_reasons"])
    assert elsewhere(SOURCE, "2", environment=environment)["kind"] == "gpu"


def test_a_child_is_listed_and_sees_what_changes(scripted_gpu: ScriptedGpu, gpu: Gpu) -> None:
    code = (
        "import os, sys; from lutra.devices.worker.nvml import Gpu, OtherProcesses; gpu = Gpu(0);"
        "watch = OtherProcesses(gpu); print(os.getpid() in gpu.pids(), flush=True); input();"
        "watch.note_own(os.getpid()); print(gpu.clock_mhz(), watch.now(), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=scripted_gpu.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "False\n"
        scripted_gpu.set(own=1, clock_mhz=210)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "210 []\n"
    assert gpu.clock_mhz() == 210


def test_the_file_stands_alone_under_python_3_8() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    assert "\nfrom __future__ import annotations\n" in SOURCE  # 3.8 cannot evaluate them
    assert imported(tree.body) <= sys.stdlib_module_names
    assert imported(list(ast.walk(tree))) <= {*sys.stdlib_module_names, "pynvml"}


def imported(nodes: Sequence[ast.AST]) -> set[str]:
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
