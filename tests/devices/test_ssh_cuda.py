"""GPUs of hosts over SSH: the real sshd and worker, a scripted driver, a simulated torch.cuda."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from lutra.cli.main import run as lutra
from lutra.devices.base import Device, RuntimeConfig, Sample, TimingRequest
from lutra.devices.cuda import GpuReport
from lutra.devices.registry import open_device
from lutra.devices.remote.ssh.shell import SshShell
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError, UsageError
from lutra.ops import Conv, Shape
from lutra.profiler.bench import open_bench, open_or_create
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.watch import Progress, Watch
from lutra.profiler.workload import ModelStore, op_workload
from lutra.tables import LatencyTable
from tests.devices.lasting import LastingContract
from tests.devices.remote.runs import after_visits, it_happens
from tests.peers.board import Board
from tests.peers.fixtures import as_client_of
from tests.peers.gpu.fixtures import GpuBoard, put_gpu
from tests.peers.gpu.scripted import advice_of

Capture = pytest.CaptureFixture[str]

SETTING = RuntimeConfig(
    "torch", options={"inputs": "same"}
)  # fewer runs, which take long to simulate
EMISSION = Emission("torch")
SMALL = Conv(Shape(8, 8, 8), 8, kernel=3)
ONE_PROCESS = TimingProtocol(rule=StoppingRule(min_rounds=2, min_processes=1, max_rounds=3))
BARE_PYTHON = "/usr/bin/python3"  # without torch


@pytest.fixture
def device(gpu_board: GpuBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The board's GPU; a lost link is waited for 20 seconds, and at the end nothing is left."""
    monkeypatch.setattr(SshShell, "patience_seconds", 20.0)
    device = open_device(gpu_board.spec)
    yield device
    device.close()
    assert not left_on(gpu_board.board)


@pytest.fixture
def slow_launches(gpu_board: GpuBoard) -> None:
    """Blocks have few kernels, each of which takes long to simulate."""
    gpu_board.gpu.set(sim_launch_us=5000)


def left_on(board: Board) -> list[Path]:
    """What is in the folders that the board's user can write to."""
    return [*board.files.iterdir(), *board.remote_home.iterdir()]


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# the contract


@pytest.fixture(scope="class")
def lasting_device(
    shared_board: Board, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    with as_client_of(shared_board):
        device = open_device(put_gpu(shared_board, tmp_path_factory.mktemp("gpu")).spec)
        yield device
        device.close()


class TestContract(LastingContract):
    """A board's scripted GPU."""


# what it is


def test_info_and_health_come_from_the_hosts_driver(device: Device, gpu_board: GpuBoard) -> None:
    info = device.info()
    assert info.spec == gpu_board.spec
    assert info.kind == info.fingerprint["device"] == "cuda"
    assert info.model.startswith("NVIDIA H100 80GB HBM3 on ")
    assert info.architecture == "compute 9.0"
    assert info.os.endswith(", driver 580.65.06")
    assert (info.cores, info.memory_bytes) == (16896, 80 << 30)
    gpu_board.gpu.set(throttle="40", power_mw=400_500, temperature_c=88, processes="77:-")
    health = device.health()
    assert health.throttled
    assert health.throttle_reasons == ("hw thermal slowdown",)
    assert health.other_processes == ("a process (pid 77)",)
    assert (health.power_w, health.temperature_c, health.clock_mhz) == (400.5, 88, 1755)
    assert health.load_1m is not None
    assert not left_on(gpu_board.board)


def test_its_spec_leads_to_the_same_device_also_after_a_driver_update(
    device: Device, gpu_board: GpuBoard
) -> None:
    info = device.info()
    same = open_device(info.spec)
    assert same.info() == info
    same.close()
    gpu_board.gpu.set(driver="999.1")
    updated = open_device(f"{gpu_board.board.spec}/cuda:00")
    assert updated.info().fingerprint == info.fingerprint
    assert updated.info().spec == info.spec
    assert "driver 999.1" in updated.info().os
    updated.close()


def test_second_gpu_is_another_device(device: Device, gpu_board: GpuBoard) -> None:
    gpu_board.gpu.set(gpus=2, name_1="NVIDIA L4")
    second = open_device(f"{gpu_board.board.spec}/cuda:1")
    assert second.info().model.startswith("NVIDIA L4 on ")
    assert second.info().fingerprint != device.info().fingerprint
    second.close()


def test_advice_names_other_processes_and_what_holds_the_clocks(
    device: Device, gpu_board: GpuBoard
) -> None:
    gpu_board.gpu.set(processes=f"77:{300 << 20}", names="77:/usr/bin/python3", throttle="4")
    shared, held = advice_of(device)
    assert "/usr/bin/python3 (pid 77, 300 MiB) computes on the same GPU" in shared
    assert "sw power cap" in held


# what is no such device


@pytest.mark.parametrize("index", ["", "a", "-1", "0x", "²", "0/cuda:1", "1/cuda:0"])
@pytest.mark.parametrize("host", ["x@h", "h:22"])
def test_what_is_no_gpus_number(host: str, index: str) -> None:
    with pytest.raises(UsageError, match=f"'{index}' is no GPU's number") as error:
        open_device(f"ssh:{host}/cuda:{index}")
    one_line(error)


@pytest.mark.parametrize("host", ["", "@h", "h:0"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(UsageError, match="ssh:user@host") as error:
        open_device(f"ssh:{host}/cuda:0")
    one_line(error)


def test_gpu_that_the_host_lacks(gpu_board: GpuBoard) -> None:
    device = open_device(f"{gpu_board.board.spec}/cuda:3")
    with pytest.raises(PermanentDeviceError, match=r"/cuda:3: there is no GPU 3; .* has 0$"):
        device.info()
    with pytest.raises(PermanentDeviceError, match="/cuda:3: there is no GPU 3"):
        device.open(SETTING)
    device.close()
    assert not left_on(gpu_board.board)


def test_host_without_a_driver(board: Board) -> None:
    if find_library("nvidia-ml"):
        pytest.skip("this machine has NVIDIA's driver")
    device = open_device(f"{board.spec}/cuda:0")
    with pytest.raises(PermanentDeviceError, match="/cuda:0: no NVIDIA driver") as error:
        device.info()
    one_line(error)
    device.close()
    assert not left_on(board)


def test_host_without_python(pythonless_board: Board) -> None:
    device = open_device(f"{pythonless_board.spec}/cuda:0")
    assert device.runtimes() == ()
    for ask in (device.info, device.health, lambda: device.open(SETTING)):
        with pytest.raises(PermanentDeviceError, match="/cuda:0: it has no python3: `sudo apt"):
            ask()
    device.close()
    assert not left_on(pythonless_board)


def test_python_without_torch_reads_the_gpu_and_is_told_the_install_line(
    device: Device, gpu_board: GpuBoard
) -> None:
    gpu_board.set_python(BARE_PYTHON)
    gpu_board.gpu.set(processes="77:-")
    assert device.info().architecture == "compute 9.0"
    assert device.runtimes() == ()
    line = r"its python3 lacks torch: there, `.*bin/pip install numpy 'torch>=.*'`.* --option pyth"
    lacks_torch, shared = advice_of(device)
    with pytest.raises(PermanentDeviceError, match=f"cannot run torch: {line}") as error:
        device.open(SETTING)
    assert one_line(error).endswith(lacks_torch)
    assert "(pid 77)" in shared


def test_this_machine_without_pynvml(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lutra.devices.sessions.board_session.find_spec", lambda name: None)
    for ask in (device.info, device.health, lambda: device.open(SETTING)):
        with pytest.raises(PermanentDeviceError, match="pip install nvidia-ml-py") as error:
            ask()
        one_line(error)


def test_wrong_options_are_named(device: Device) -> None:
    with pytest.raises(UsageError, match=r"graph=off\|on.*python=PYTHON"):
        device.open(RuntimeConfig("torch", options={"graph": "yes"}))


@pytest.mark.parametrize("said", ["", "{", "[]", '{"facts": {}}', '{"facts": 1, "state": 2}'])
def test_report_that_is_none(said: str) -> None:
    with pytest.raises(PermanentDeviceError, match="ssh:h/cuda:0: the GPU cannot be read") as error:
        GpuReport.parse(f"Traceback:\n{said}", "ssh:h/cuda:0")
    assert one_line(error).endswith(said)


# how it times


@pytest.mark.usefixtures("slow_launches")
def test_samples_tell_the_devices_time_its_clock_and_what_is_wrong(
    device: Device, gpu_board: GpuBoard, tmp_path: Path
) -> None:
    request = TimingRequest(0, ModelStore(tmp_path, "torch").path(op_workload(SMALL, EMISSION)))

    def sample() -> Sample:
        (outcome,) = session.measure([request])
        assert isinstance(outcome, Sample), outcome
        return outcome

    with device.open(SETTING) as session:
        assert session.describe().delegate == "eager"
        before = sample()
        assert before.device_ms is not None
        assert min(before.block_ms) > 5 > 0.1 > before.device_ms
        assert (before.clock_mhz, before.flags, session.throttled()) == (1755, (), False)
        assert device.info().spec == gpu_board.spec  # over the connection that the session uses
        gpu_board.gpu.set(processes="4242:1000", throttle="20", clock_mhz=1200)
        assert device.health().throttled
        after = sample()
        assert (after.clock_mhz, after.flags) == (1200, ("throttled", "shared"))
        assert session.throttled()
        assert after.process == before.process


# what can go wrong


def profile(
    device: Device, table: Path, *, on_progress: Callable[[Progress], None] = lambda _: None
) -> None:
    """Profile two ops into a table, as CUDA graphs."""
    config = RuntimeConfig("torch", options={"graph": "on", "inputs": "same", "cores": "1"})
    workloads = [op_workload(Conv(Shape(8, 8, 8), 8 * n, kernel=3), EMISSION) for n in (1, 2)]
    with open_bench(device, config) as bench, open_or_create(table, bench.target) as opened:
        bench.measure(opened, workloads, ONE_PROCESS, watch=Watch(on_progress=on_progress))


@pytest.mark.usefixtures("slow_launches")
@pytest.mark.slow
def test_run_outlives_the_link_but_not_the_card_and_the_same_command_resumes(
    device: Device, gpu_board: GpuBoard, tmp_path: Path
) -> None:
    table = tmp_path / "gpu.lut"
    cut_link = after_visits(1, gpu_board.board.kill_sessions)
    lose_card = after_visits(3, lambda: gpu_board.gpu.set(lost=1))

    def break_it(progress: Progress) -> None:
        cut_link(progress)
        lose_card(progress)

    with pytest.raises(PermanentDeviceError, match="the GPU has fallen off the bus") as error:
        with it_happens(cut_link), it_happens(lose_card):
            profile(device, table, on_progress=break_it)
    one_line(error)
    with LatencyTable.open(table) as opened:
        measured = [visit for row in opened.rows("op") for visit in opened.visits("op", row.key)]
    assert len(measured) == 3
    assert {visit.process for visit in measured} == {1, 2}

    gpu_board.gpu.set(lost=0)
    profile(device, table)
    with LatencyTable.open(table) as opened:
        assert opened.target.delegate == "eager, CUDA graph"
        assert opened.target.options == "cores=1,graph=on,inputs=same"
        assert opened.target.core_mask == "1"
        rows = opened.rows("op")
    assert [row.failure for row in rows] == [None] * 2
    for row in rows:
        assert row.measurement is not None
        assert row.measurement.latency_ms < 0.1  # launched one by one, kernels take 5 ms each
        assert row.measurement.device_ms is None
        assert row.measurement.clock_mhz == 1755
        assert row.measurement.rounds >= 2


# the command line


def lutra_json(capsys: Capture, *arguments: object) -> tuple[int, Any]:
    """The exit status and what is printed as JSON."""
    code = lutra([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("slow_launches")
def test_doctor_of_a_gpu(
    gpu_board: GpuBoard, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lutra.profiler.doctor._ENOUGH_SECONDS", 0.0)
    gpu_board.gpu.set(processes="77:-")
    host, quick = gpu_board.board.spec, ["--option", "inputs=same"]
    code, said = lutra_json(capsys, "doctor", host, "--cuda", 0, *quick)
    assert code == 3
    assert (said["fit"], said["shared_percent"]) == (False, 100)
    assert said["info"]["spec"] == gpu_board.spec
    assert said["runtime"] == "torch"
    assert said["noise_percent"] is not None
    assert any("(pid 77)" in finding for finding in said["findings"])
    assert not left_on(gpu_board.board)


def test_doctor_of_a_gpu_without_torch(gpu_board: GpuBoard, capsys: Capture) -> None:
    gpu_board.set_python(BARE_PYTHON)
    gpu_board.gpu.set(processes="77:-")
    code, said = lutra_json(capsys, "doctor", gpu_board.spec)
    assert code == 3
    assert not said["fit"]
    assert "has no runtime: its python3 lacks torch" in said["findings"][0]


def test_plan_for_gpus_of_two_hosts(capsys: Capture, tmp_path: Path) -> None:
    hosts = ["ssh:x@h", "ssh:y@h:22"]
    code, said = lutra_json(
        capsys, "profile", *hosts, "--cuda", 1, "--dry-run", "-o", f"{tmp_path}/"
    )
    assert code == 1  # there are no such hosts, as a run would say too
    assert [plan["spec"] for plan in said["devices"]] == [f"{host}/cuda:1" for host in hosts]
    assert all("error" in plan for plan in said["devices"])


@pytest.mark.parametrize(
    ("spec", "cuda", "says"),
    [
        ("cpu", "0", "--cuda 0 goes with ssh:user@host"),
        ("cuda:0", "0", "--cuda 0 goes with ssh:user@host"),
        ("ssh:x@h", "a", "'a' is no GPU's number"),
        ("ssh:x@h/cuda:0", "0", "'0/cuda:0' is no GPU's number"),
    ],
)
def test_impossible_gpus_on_the_command_line(
    spec: str, cuda: str, says: str, capsys: Capture, tmp_path: Path
) -> None:
    output = tmp_path / "gpu.lut"
    for arguments in (["doctor", spec], ["profile", spec, "-o", str(output)]):
        assert lutra([*arguments, "--cuda", cuda]) == 2
        captured = capsys.readouterr()
        (line,) = captured.err.strip().splitlines()
        assert says in line
        assert captured.out == ""
    assert not output.exists()


def test_profile_of_a_gpu_that_the_host_lacks(
    gpu_board: GpuBoard, capsys: Capture, tmp_path: Path
) -> None:
    output = tmp_path / "gpu.lut"
    assert lutra(["profile", gpu_board.board.spec, "--cuda", "3", "-o", str(output)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "there is no GPU 3" in line
    assert not output.exists()
