"""The peers do what tests rely on. What they cannot run on, they are skipped on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import adbutils
import pytest

from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from lutra.profiler.workload import ModelStore, op_workload
from tests.peers.adb_server import AdbServer
from tests.peers.board import Board
from tests.peers.network import NAMESPACES, remove_stale
from tests.peers.phone import Phone
from tests.peers.roots import available, benchmark_model, sleeping_benchmark

TIMINGS = re.compile(
    r"INFO: Inference timings in us: Init: \d+, First inference: \d+,"
    r" Warmup \(avg\): [\d.e+]+, Inference \(avg\): ([\d.e+]+)\n"
)


class Shell:
    """``adb shell`` on a phone."""

    def __init__(self, phone: Phone, server: AdbServer) -> None:
        self.phone = phone
        self.server = server
        self.connect()

    def connect(self) -> None:
        self.server.run("disconnect")
        assert f"connected to {self.phone.serial}" in self.server.connect(self.phone.serial)

    def adb(self, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        return self.server.run(*arguments, timeout=timeout)

    def __call__(self, command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        return self.adb("-s", self.phone.serial, "shell", command, timeout=timeout)

    def push(self, file: Path, name: str) -> None:
        target = f"/data/local/tmp/{name}"
        assert self.adb("-s", self.phone.serial, "push", str(file), target).returncode == 0


@pytest.fixture
def shell(phone: Phone, adb_server: AdbServer) -> Shell:
    return Shell(phone, adb_server)


@pytest.fixture
def emulated_shell(emulated_phone: Phone, adb_server: AdbServer) -> Shell:
    return Shell(emulated_phone, adb_server)


@pytest.fixture
def conv_model(tmp_path: Path) -> Path:
    op = Conv(Shape(28, 28, 32), 32, activation="relu")
    return ModelStore(tmp_path, "tflite").path(op_workload(op, Emission(format="tflite")))


def run_benchmark(shell: Shell, program: Path, model: Path, *flags: str) -> str:
    shell.push(program, "benchmark_model")
    shell.push(model, "model.tflite")
    short = "--num_runs=5 --min_secs=0.05 --warmup_min_secs=0.02"
    command = f"./benchmark_model --graph=model.tflite {short} {' '.join(flags)}"
    done = shell(f"cd /data/local/tmp && chmod +x benchmark_model && {command}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def ssh(board: Board, command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(board.config), "board", command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_commands_run_with_their_exit_status(shell: Shell) -> None:
    done = shell("uname -n; getprop ro.product.model; echo bad >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("phone\nPixel Test\n", "bad\n", 7)


def test_properties_and_services_are_the_tests_to_set(shell: Shell) -> None:
    phone = shell.phone
    phone.set_property("ro.soc.model", "XY 1")
    phone.set_thermal_status(3)
    phone.set_battery(level=41, temperature_c=35.2)
    assert "[ro.soc.model]: [XY 1]\n" in shell("getprop").stdout
    assert shell("getprop no.such.property").stdout == "\n"
    assert "\nThermal Status: 3\n" in shell("dumpsys thermalservice").stdout
    assert "  level: 41\n" in shell("dumpsys battery").stdout
    assert "  temperature: 352\n" in shell("dumpsys battery").stdout


def test_settings_last_and_calls_are_logged(shell: Shell) -> None:
    assert shell("settings get global low_power").stdout == "null\n"
    shell("settings put global low_power 1; svc power stayon usb; input keyevent 224")
    assert shell("settings get global low_power").stdout == "1\n"
    assert shell.phone.setting("stay_on_while_plugged_in") == "2"
    assert "svc power stayon usb\ninput keyevent 224\n" in shell.phone.log


def test_the_clocks_and_temperatures_are_files(shell: Shell) -> None:
    cpu = "/sys/devices/system/cpu/cpu7/cpufreq"
    (shell.phone.sys / "class/thermal/thermal_zone0/temp").write_text("71000\n")
    done = shell(
        f"cat {cpu}/cpuinfo_max_freq /sys/class/thermal/thermal_zone0/temp;"
        f" echo performance >{cpu}/scaling_governor"
    )
    assert done.stdout == "2850000\n71000\n"
    governor = shell.phone.sys / f"{cpu.removeprefix('/sys/')}/scaling_governor"
    assert governor.read_text() == "performance\n"


def test_pinning_to_a_phones_cores_is_noted_down(shell: Shell) -> None:
    assert shell("taskset f0 echo pinned").stdout == "pinned\n"
    assert "taskset f0 echo pinned\n" in shell.phone.log


def test_the_tools_are_androids(shell: Shell) -> None:
    for tool in ("timeout", "ps", "stat", "sha256sum", "pkill", "df"):
        assert shell(f"readlink $(which {tool})").stdout == "/usr/bin/toybox\n"
    assert shell("timeout 0.1 sleep 5").returncode != 0


def test_files_go_there_and_outlast_a_reboot(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0" * 1_000_000)
    shell.push(tmp_path / "file", "file")
    shell.phone.reboot()
    shell.connect()
    assert shell("stat -c %s /data/local/tmp/file").stdout == "1000000\n"
    assert (shell.phone.files / "file").stat().st_size == 1_000_000


def test_storage_can_be_full(shell: Shell) -> None:
    done = shell("head -c 300m /dev/zero >/data/local/tmp/file")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr


def test_a_killed_phone_is_gone_and_comes_back(shell: Shell) -> None:
    shell.phone.kill()
    assert shell("echo").returncode != 0
    shell.phone.start()
    shell.connect()
    assert shell("echo back").stdout == "back\n"


def test_programs_outlive_adbd(shell: Shell) -> None:
    command = "cd /data/local/tmp; touch started; sleep 1; touch finished"
    server = shell.server
    with subprocess.Popen(
        [adbutils.adb_path(), "-s", shell.phone.serial, "shell", command],
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        wait_for(shell.phone.files / "started")
        shell.phone.kill_adbd(restart=False)
    assert not (shell.phone.files / "finished").exists()
    wait_for(shell.phone.files / "finished")
    with pytest.raises(LookupError):
        shell.phone.adbd()
    shell.phone.start_adbd()
    shell.connect()
    assert shell("ls /data/local/tmp").stdout.split() == ["finished", "started"]


def test_adbd_restarts_by_itself(shell: Shell) -> None:
    before = shell.phone.adbd()
    shell.phone.kill_adbd()
    shell.phone.start_adbd()
    assert shell.phone.adbd() != before


def test_a_frozen_phone_does_not_answer(shell: Shell) -> None:
    shell.phone.freeze()
    with pytest.raises(subprocess.TimeoutExpired):
        shell("echo", timeout=1)
    shell.phone.thaw()
    assert shell("echo back").stdout == "back\n"


def test_nothing_comes_through_a_cut_link(shell: Shell) -> None:
    shell.phone.network.down()
    with pytest.raises(subprocess.TimeoutExpired):
        shell("echo", timeout=1)
    shell.phone.network.up()
    assert shell("echo back").stdout == "back\n"


def test_a_healed_phone_is_as_new(shell: Shell) -> None:
    phone = shell.phone
    shell("mkdir -p /data/local/tmp/a/b; settings put global x 1")
    shell("sleep 50 </dev/null >/dev/null 2>&1 &")
    phone.set_property("ro.product.model", "Other")
    phone.heal()
    assert shell("pgrep sleep").stdout == ""
    phone.kill()
    phone.heal()
    shell.connect()
    assert shell("getprop ro.product.model; ls -A /data/local/tmp").stdout == "Pixel Test\n"
    assert (phone.log, phone.setting("x")) == ("", None)


def test_phones_do_not_share_anything(shell: Shell) -> None:
    with Phone(storage_mb=1) as other:
        assert other.serial != shell.phone.serial
        (other.files / "file").touch()
        other.set_property("ro.product.model", "Other")
        assert list(shell.phone.files.iterdir()) == []
        assert shell("getprop ro.product.model").stdout == "Pixel Test\n"


def test_benchmark_model_runs_inference(shell: Shell, conv_model: Path) -> None:
    output = run_benchmark(shell, benchmark_model("amd64"), conv_model)
    assert output.count("\nINFO: count=") == 2
    timings = TIMINGS.search(output)
    assert timings is not None
    assert 0 < float(timings[1]) < 1e5
    assert "Unconsumed" not in output


def test_benchmark_model_only_warns_of_unknown_flags(shell: Shell, conv_model: Path) -> None:
    output = run_benchmark(shell, benchmark_model("amd64"), conv_model, "--use_gpu=true")
    assert "WARN: Unconsumed cmdline flags: --use_gpu=true\n" in output
    assert TIMINGS.search(output)


def test_benchmark_model_fails_without_a_model(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("no model")
    with pytest.raises(AssertionError, match=r"ERROR: .*Benchmarking failed"):
        run_benchmark(shell, benchmark_model("amd64"), tmp_path / "model")


def test_the_sleeping_benchmark_sleeps(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("sleep_us=2000\n")
    output = run_benchmark(shell, sleeping_benchmark("amd64"), tmp_path / "model")
    timings = TIMINGS.search(output)
    assert timings is not None
    assert float(timings[1]) >= 2000


def test_a_killed_test_process_leaves_nothing_behind() -> None:
    reason = available()
    if reason is not None:
        pytest.skip(reason)
    hold = "from tests.peers.phone import Phone\nwith Phone() as p:\n print(p.serial)\n"
    hold += " print(p.machine.first_pid, flush=True)\n input()\n"
    child = subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        first_pid = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
    wait_for(Path(f"/proc/{first_pid}"), there=False)
    remove_stale()
    assert not list(NAMESPACES.glob(f"lutra-{child.pid}-*"))


@pytest.mark.emulated
def test_an_emulated_phone_is_an_arm_phone(emulated_shell: Shell) -> None:
    done = emulated_shell("uname -m; getprop ro.product.cpu.abi; exit 7")
    assert (done.stdout, done.returncode) == ("aarch64\narm64-v8a\n", 7)
    assert "CPU implementer" in emulated_shell("cat /proc/cpuinfo").stdout


@pytest.mark.emulated
def test_benchmark_model_runs_inference_on_arm(emulated_shell: Shell, conv_model: Path) -> None:
    output = run_benchmark(emulated_shell, benchmark_model("arm64"), conv_model)
    assert TIMINGS.search(output)


def test_a_board_runs_commands_with_their_exit_status(board: Board) -> None:
    done = ssh(board, "uname -n; echo $TMPDIR; echo bad >&2; exit 7")
    assert (done.stdout, done.returncode) == (f"board\n{board.files}\n", 7)
    assert "bad\n" in done.stderr


def test_a_boards_python_is_the_one_of_the_tests(board: Board) -> None:
    done = ssh(board, "python3 -c 'import sys, numpy; print(sys.prefix)'")
    assert done.stdout == f"{sys.prefix}\n"


def test_a_board_can_be_without_python(pythonless_board: Board) -> None:
    assert ssh(pythonless_board, "python3 -V").returncode == 127
    assert ssh(pythonless_board, "python -V").returncode == 127
    assert ssh(pythonless_board, "cd $TMPDIR && echo hi >x && tar -c x | wc -l").returncode == 0


def test_a_board_takes_files(board: Board) -> None:
    done = subprocess.run(
        ["sftp", "-q", "-F", str(board.config), "-b", "-", "board"],
        input=f"put {board.home}/.ssh/config copy\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (board.remote_home / "copy").read_text() == board.config.read_text()


def test_another_host_key_is_refused(board: Board) -> None:
    board.change_host_key()
    assert "HOST IDENTIFICATION HAS CHANGED" in ssh(board, "true").stderr
    board.trust()
    assert ssh(board, "true").returncode == 0


def test_killed_sessions_end_without_a_status(board: Board) -> None:
    with running_session(board) as session:
        board.kill_sessions()
        assert session.wait(10) == 255
    assert ssh(board, "echo on").stdout == "on\n"


def test_a_stopped_board_refuses_and_a_cut_link_is_silent(board: Board) -> None:
    board.stop()
    assert "refused" in ssh(board, "true").stderr
    board.start()
    board.network.down()
    with pytest.raises(subprocess.TimeoutExpired):
        ssh(board, "true", timeout=1)


@pytest.mark.slow
@pytest.mark.emulated
def test_an_emulated_board_is_a_raspberry(emulated_board: Board) -> None:
    emulated_board.set_vcgencmd("get_throttled", "throttled=0x50005")
    done = ssh(
        emulated_board,
        "uname -m; tr -d '\\0' </sys/firmware/devicetree/base/model; echo;"
        " vcgencmd get_throttled; vcgencmd measure_temp",
    )
    model = "Raspberry Pi 4 Model B Rev 1.4"
    assert done.stdout == f"aarch64\n{model}\nthrottled=0x50005\ntemp=48.3'C\n"


@pytest.mark.slow
@pytest.mark.emulated
def test_an_emulated_board_interprets_models(emulated_board: Board, conv_model: Path) -> None:
    (emulated_board.files / "model.tflite").write_bytes(conv_model.read_bytes())
    program = (
        "import sys\n"
        "from tflite_runtime.interpreter import Interpreter\n"
        "interpreter = Interpreter(sys.argv[1])\n"
        "interpreter.allocate_tensors()\n"
        "interpreter.invoke()\n"
        "print(interpreter.get_output_details()[0]['shape'].tolist())\n"
    )
    (emulated_board.files / "run.py").write_text(program)
    done = ssh(emulated_board, "cd $TMPDIR && python3 run.py model.tflite")
    assert done.stdout == "[1, 28, 28, 32]\n", done.stderr


@pytest.mark.slow
@pytest.mark.emulated
def test_killed_sessions_of_a_newer_sshd_end_too(emulated_board: Board) -> None:
    with running_session(emulated_board) as session:
        emulated_board.kill_sessions()
        assert session.wait(10) == 255


@contextmanager
def running_session(board: Board) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs over ssh until it is ended."""
    command = ["ssh", "-F", str(board.config), "board", "touch $TMPDIR/on; sleep 60"]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
    try:
        wait_for(board.files / "on")
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(path: Path, there: bool = True) -> None:
    deadline = time.monotonic() + 30
    while path.exists() != there:
        assert time.monotonic() < deadline, path
        time.sleep(0.05)
