"""The Android adapter on a phone under the real adbd."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lutra.devices.android import AndroidDevice, android_device, attached_devices
from lutra.devices.base import Device, ProcessMemory, RuntimeConfig, Sample, TimingRequest
from lutra.devices.benchmark_model.binary import ENVIRONMENT
from lutra.devices.registry import open_device
from lutra.devices.remote.adb_shell import AdbShell, advice_for, attached
from lutra.devices.remote.device_state import hold_clocks, keep_awake
from lutra.devices.remote.folder import RemoteFolder
from lutra.emitters.emission import Emission
from lutra.errors import DeviceError, PermanentDeviceError, TransientDeviceError, UsageError
from lutra.files import locks
from lutra.ops import Conv, Shape
from lutra.profiler.doctor import examine
from lutra.profiler.workload import ModelStore, op_workload
from lutra.testing import DeviceContract
from tests.devices.benchmark_model.programs import (
    RESULT,
    latency_ms,
    write_models,
    write_program,
)
from tests.devices.remote.runs import SETTING, after_visits, measure
from tests.peers.adb_server import AdbServer
from tests.peers.phone import Phone
from tests.peers.roots import benchmark_model

GOVERNOR = "devices/system/cpu/cpu7/cpufreq/scaling_governor"
AWAKE = "stay_on_while_plugged_in"


@pytest.fixture
def device(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> AndroidDevice:
    """The phone, with a benchmark_model that really runs TFLite models."""
    monkeypatch.setenv(ENVIRONMENT, str(benchmark_model("amd64")))
    return AndroidDevice(phone.serial)


@pytest.fixture
def quick_device(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AndroidDevice:
    """The phone, with a program whose answers are known."""
    monkeypatch.setenv(ENVIRONMENT, str(write_program(tmp_path)))
    return AndroidDevice(phone.serial)


@contextlib.contextmanager
def killed_run(phone: Phone, model: Path) -> Iterator[None]:
    """Another process that measures on the phone, and is killed after the body."""
    code = (
        "import sys; from pathlib import Path; from lutra.devices.base import *;"
        "from lutra.devices.android import AndroidDevice;"
        "session = AndroidDevice(sys.argv[1]).open(RuntimeConfig('benchmark_model'));"
        "session.describe(); print('open', flush=True);"
        "list(session.measure(TimingRequest(i, Path(sys.argv[2])) for i in range(99)))"
    )
    command = [sys.executable, "-c", code, phone.serial, str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def keeper_number(phone: Phone) -> str:
    """The process number, on the phone, of its only keeper."""
    (keeper,) = phone.files.glob("lutra-*/keeper")
    return keeper.read_text().split()[0]


def slow_to_remove(phone: Phone) -> None:
    """Make its rm take a while: what must be gone before a word is said shows."""
    remove = phone.shims / "rm"
    remove.unlink()
    remove.write_text('#!/bin/sh\nsleep 0.2\nexec /usr/bin/toybox rm "$@"\n')
    remove.chmod(0o755)


def assert_as_it_was(phone: Phone) -> None:
    """The phone is as nobody of ours has changed it."""
    assert phone.setting(AWAKE) == "0"
    assert (phone.sys / GOVERNOR).read_text().strip() == "schedutil"
    assert not list(phone.files.iterdir())


class TestContract(DeviceContract):
    @pytest.fixture
    def device(self, phone: Phone, monkeypatch: pytest.MonkeyPatch) -> Device:
        monkeypatch.setenv(ENVIRONMENT, str(benchmark_model("amd64")))
        return AndroidDevice(phone.serial)


def test_memory_is_what_the_program_says(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.5"
    program = write_program(tmp_path, result=f"{RESULT}\necho 'INFO: {said}'\n")
    monkeypatch.setenv(ENVIRONMENT, str(program))
    (model,) = write_models(tmp_path, 1)
    requests = [TimingRequest(0, model, memory=True), TimingRequest(1, model)]
    with AndroidDevice(phone.serial).open(RuntimeConfig("benchmark_model")) as session:
        asked, unasked = session.measure(requests)
    assert isinstance(asked, Sample)
    assert isinstance(unasked, Sample)
    assert asked.memory == ProcessMemory(int(2.5 * 2**20), None)
    assert unasked.memory is None


class TestInfo:
    def test_says_what_it_is(self, device: AndroidDevice, phone: Phone) -> None:
        info = device.info()
        assert info.spec == f"adb:{phone.serial}"
        assert info.model == "Google Pixel Test (Lutra LT8)"
        assert info.architecture == "x86_64"
        assert info.os == "Android 14"
        assert info.cores == 8
        assert info.governor == "schedutil"

    def test_reads_its_state(self, device: AndroidDevice, phone: Phone) -> None:
        phone.set_battery(level=71)
        health = device.health()
        assert health.battery_percent == 71
        assert health.clock_mhz
        assert health.temperature_c
        assert health.throttled is False
        phone.set_thermal_status(2)
        assert device.health().throttled is True

    def test_reads_what_there_is(self, device: AndroidDevice, phone: Phone) -> None:
        """Everything is optional: a phone without services and properties is a phone."""
        phone.set_dumpsys("thermalservice", None)
        phone.set_dumpsys("battery", None)
        for name in ("ro.product.model", "ro.product.manufacturer", "ro.soc.model"):
            phone.set_property(name, "")
        assert device.info().model
        health = device.health()
        assert health.battery_percent is None

    @pytest.mark.parametrize(
        "text", ["", "garbage", "Thermal Status: $(touch /pwned)", "Thermal Status: 99999999999"]
    )
    def test_strange_services_do_no_harm(
        self, device: AndroidDevice, phone: Phone, text: str
    ) -> None:
        phone.set_dumpsys("thermalservice", text)
        phone.set_dumpsys("battery", text)
        device.health()
        assert not AdbShell(phone.serial).run("ls /pwned 2>/dev/null").output

    def test_advice(self, device: AndroidDevice, phone: Phone) -> None:
        phone.set_battery(level=12, temperature_c=44.0, usb_powered=False)
        device.health()
        said = " ".join(device.advice())
        for word in ("12 %", "not on power", "44 degC", "core 7, mask 80"):
            assert word in said


class TestAttached:
    def test_bare_adb_is_the_only_device(self, device: AndroidDevice, phone: Phone) -> None:
        device.info()
        assert android_device("").info().spec == f"adb:{phone.serial}"

    def test_bare_adb_without_a_device(self, adb_server: AdbServer) -> None:
        with pytest.raises(PermanentDeviceError, match="USB debugging"):
            open_device("adb")

    def test_bare_adb_with_several(self, device: AndroidDevice, phone: Phone) -> None:
        device.info()
        with Phone("amd64") as second:
            AndroidDevice(second.serial).info()
            with pytest.raises(UsageError, match="several") as error:
                open_device("adb")
            assert phone.serial in str(error.value)
            assert second.serial in str(error.value)
            specs = {found.spec for found in attached_devices()}
            assert specs == {f"adb:{phone.serial}", f"adb:{second.serial}"}

    def test_no_such_device(self, adb_server: AdbServer) -> None:
        with pytest.raises(TransientDeviceError, match="attached: none"):
            AndroidDevice("R58M123").info()

    def test_nothing_listens_there(self, adb_server: AdbServer) -> None:
        with pytest.raises(DeviceError, match=r"127.0.0.1:1\b"):
            AndroidDevice("127.0.0.1:1").info()

    @pytest.mark.parametrize(
        "state", ["unauthorized", "offline", "no permissions (udev)", "recovery", "bootloader"]
    )
    def test_each_unusable_state_is_explained(
        self, monkeypatch: pytest.MonkeyPatch, state: str
    ) -> None:
        monkeypatch.setattr("lutra.devices.remote.adb_shell.attached", lambda: {"X": state})
        monkeypatch.setattr("lutra.devices.android.attached", lambda: {"X": state})
        (found,) = attached_devices()
        assert found.advice == advice_for(state) != ""
        with pytest.raises(DeviceError, match=state.split()[0]) as error:
            AndroidDevice("X").info()
        assert found.advice in str(error.value)

    def test_an_unauthorized_phone_is_explained(self, unauthorized_phone: str) -> None:
        state = "unauthorized"
        found = {device.spec: device for device in attached_devices()}[f"adb:{unauthorized_phone}"]
        assert state in found.what
        assert found.advice == advice_for(state)
        with pytest.raises(PermanentDeviceError, match="Allow USB debugging") as error:
            AndroidDevice(unauthorized_phone).info()
        assert str(error.value) == f"{found.spec} is {state}: {found.advice}"
        assert "\n" not in str(error.value)

    def test_a_killed_phone_is_offline_or_gone(self, device: AndroidDevice, phone: Phone) -> None:
        device.info()
        assert attached()[phone.serial] == "device"
        phone.kill()
        with pytest.raises(DeviceError, match=phone.serial):
            AndroidDevice(phone.serial).info()


class TestSession:
    def test_times_real_models_of_every_precision(
        self, device: AndroidDevice, tmp_path: Path
    ) -> None:
        paths = []
        for precision in ("fp32", "fp16", "int8"):
            emission = Emission("tflite", precision)
            folder = tmp_path / precision
            folder.mkdir()
            op = Conv(Shape(14, 14, 64), 64, kernel=3, activation="relu")
            paths.append(ModelStore(folder, "tflite").path(op_workload(op, emission)))
        with device.open(SETTING) as session:
            outcomes = list(session.measure(TimingRequest(n, p) for n, p in enumerate(paths)))
        for outcome in outcomes:
            assert isinstance(outcome, Sample), outcome
            assert 0.001 < outcome.block_ms[0] < 100
            assert outcome.timed_seconds > 0.03

    @pytest.mark.parametrize(
        ("threads", "options", "mask"),
        [(1, {}, "80"), (2, {}, "c0"), (4, {}, "f0"), (1, {"cores": "0f"}, "f"), (8, {}, "ff")],
    )
    def test_pins_to_the_fastest_cores(
        self,
        quick_device: AndroidDevice,
        phone: Phone,
        threads: int,
        options: dict[str, str],
        mask: str,
    ) -> None:
        config = RuntimeConfig("benchmark_model", threads=threads, options=options)
        with quick_device.open(config) as session:
            assert session.describe().core_mask == mask
        assert f"taskset {mask} ./benchmark_model" in phone.log
        assert f"--num_threads={threads}" in phone.log

    @pytest.mark.parametrize(
        ("threads", "options", "said"),
        [
            (9, {}, "offers 1 to 8"),
            (0, {}, "at least 1"),
            (1, {"cores": "100"}, "has the cores ff"),
            (1, {"cores": "0"}, "has the cores ff"),
            (1, {"cores": "$(reboot)"}, "no option"),
            (4, {"cores": "3"}, "more threads than cores"),
            (1, {"delegate": "magic"}, "xnnpack"),
            (1, {"delegate": "npu"}, "no delegate 'npu'"),
        ],
    )
    def test_impossible_settings(
        self, quick_device: AndroidDevice, threads: int, options: dict[str, str], said: str
    ) -> None:
        config = RuntimeConfig("benchmark_model", threads=threads, options=options)
        with pytest.raises((UsageError, PermanentDeviceError), match=re.escape(said)):
            with quick_device.open(config) as session:
                session.describe()

    def test_brings_the_phone_into_a_known_state_and_puts_it_back(
        self, quick_device: AndroidDevice, phone: Phone
    ) -> None:
        before = phone.setting(AWAKE)
        with quick_device.open(SETTING) as session:
            session.describe()
            assert phone.setting(AWAKE) == "7"
            assert (phone.sys / GOVERNOR).read_text().strip() == "performance"
            slow = (phone.sys / GOVERNOR.replace("cpu7", "cpu0")).read_text().strip()
            assert slow == "schedutil"
        assert phone.setting(AWAKE) == (before or "0")
        assert (phone.sys / GOVERNOR).read_text().strip() == "schedutil"
        assert not list(phone.files.iterdir())

    def test_puts_it_back_although_lutra_is_killed(
        self, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(ENVIRONMENT, str(write_program(tmp_path, "sleep 0.2")))
        with killed_run(phone, write_models(tmp_path, 1)[0]):
            assert list(phone.files.glob("lutra-*/benchmark_model"))
            assert phone.setting(AWAKE) == "7"
            assert (phone.sys / GOVERNOR).read_text().strip() == "performance"
        deadline = time.monotonic() + 10
        while list(phone.files.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not list(phone.files.iterdir())
        assert (phone.sys / GOVERNOR).read_text().strip() == "schedutil"
        assert phone.setting(AWAKE) == "0"
        assert "benchmark_model" not in AdbShell(phone.serial).run("ps -A -o ARGS").output

    def test_a_run_right_after_a_killed_one_leaves_it_as_the_first_found_it(
        self, quick_device: AndroidDevice, phone: Phone, tmp_path: Path
    ) -> None:
        """The killed run's keeper does not know of it yet when the next run starts."""
        shell = AdbShell(phone.serial)
        with killed_run(phone, write_models(tmp_path, 1)[0]):
            number = keeper_number(phone)
            assert shell.run(f"kill -STOP {number}").status == 0
        with quick_device.open(SETTING) as session:
            session.describe()
            assert shell.run(f"kill -CONT {number}").status != 0
            assert phone.setting(AWAKE) == "7"
            assert (phone.sys / GOVERNOR).read_text().strip() == "performance"
        assert_as_it_was(phone)

    def test_another_hosts_run_on_it_is_refused_and_changes_nothing(
        self, quick_device: AndroidDevice, phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow_to_remove(phone)
        with quick_device.open(SETTING) as session:
            session.describe()
            monkeypatch.setattr(locks, "domain", lambda: "another-host")
            says = f"measured on by another run, .*`kill {keeper_number(phone)}` there"
            with AndroidDevice(phone.serial).open(SETTING) as second:
                with pytest.raises(TransientDeviceError, match=says) as error:
                    second.describe()
                assert "\n" not in str(error.value)
            assert len(list(phone.files.glob("lutra-*"))) == 1
            assert phone.setting(AWAKE) == "7"
            assert (phone.sys / GOVERNOR).read_text().strip() == "performance"
        assert_as_it_was(phone)

    @pytest.mark.parametrize("first_to_end", [0, 1])
    def test_of_two_that_hold_a_state_the_last_puts_back_what_the_first_found(
        self, quick_device: AndroidDevice, phone: Phone, first_to_end: int
    ) -> None:
        """Two GPUs of one host are measured on at once; so may be what claims cannot see."""
        quick_device.info()
        hold = keep_awake() + hold_clocks([7])
        folders = [
            RemoteFolder(AdbShell(phone.serial), "/data/local/tmp", hold, claim)
            for claim in ("one", "another")
        ]
        folders.pop(first_to_end).close()
        assert phone.setting(AWAKE) == "7"
        assert (phone.sys / GOVERNOR).read_text().strip() == "performance"
        folders.pop().close()
        assert_as_it_was(phone)

    def test_a_keeper_that_learns_late_of_a_lost_link_changes_nothing(
        self, quick_device: AndroidDevice, phone: Phone, tmp_path: Path
    ) -> None:
        (model,) = write_models(tmp_path, 1)
        with quick_device.open(SETTING) as session:
            session.describe()
            number = keeper_number(phone)
            shell = AdbShell(phone.serial)
            assert shell.run(f"kill -STOP {number}").status == 0
            phone.kill_adbd()
            (outcome,) = session.measure([TimingRequest(0, model)])
            assert isinstance(outcome, Sample)
            assert shell.run(f"kill -CONT {number}").status != 0
            assert (phone.sys / GOVERNOR).read_text().strip() == "performance"
        assert (phone.sys / GOVERNOR).read_text().strip() == "schedutil"
        assert not list(phone.files.iterdir())

    def test_a_setting_that_outlives_a_lost_phone_is_put_back_next_time(
        self, quick_device: AndroidDevice, phone: Phone, tmp_path: Path
    ) -> None:
        session = quick_device.open(SETTING)
        session.describe()
        phone.reboot()
        assert phone.setting(AWAKE) == "7"
        with AndroidDevice(phone.serial).open(SETTING) as second:
            second.describe()
            assert phone.setting(AWAKE) == "7"
        assert phone.setting(AWAKE) == "0"
        assert not list(phone.files.iterdir())
        session.close()
        assert phone.setting(AWAKE) == "0"

    def test_numbers_of_before_a_reboot_are_trusted_no_more(
        self, quick_device: AndroidDevice, phone: Phone
    ) -> None:
        quick_device.info()
        shell = AdbShell(phone.serial)
        started = 'until [ "$(cut -d" " -f6 /proc/$!/stat)" = $! ]; do sleep 0.05; done'
        number = shell.run(
            f"setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; {started}"
        ).output.strip()
        found = shell.run("until pgrep -f '[s]leep 1000'; do sleep 0.05; done").output
        assert found.strip() == number
        left = phone.files / "lutra-0123456789ab"
        left.mkdir()
        for name in ("script", "pid"):
            (left / name).write_text(f"{number}\n")
        host = shell.run("uname -n").output.strip()
        (left / "keeper").write_text(f"{number} {host} another-boot pid:[1]\n")
        with quick_device.open(SETTING) as session:
            session.describe()
            assert not left.exists()
        assert shell.run(f"kill {number}").status == 0

    def test_models_are_sent_once(
        self, quick_device: AndroidDevice, phone: Phone, tmp_path: Path
    ) -> None:
        models = write_models(tmp_path, 3)
        with quick_device.open(SETTING) as session:
            for _ in range(3):
                list(session.measure(TimingRequest(n, path) for n, path in enumerate(models)))
            sent = [path.name for path in phone.files.glob("lutra-*/*.model")]
        assert len(sent) == 1 + len(models)  # and the one that told which program it is

    def test_many_models_share_few_connections(
        self, quick_device: AndroidDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        services: list[str] = []
        real = AdbShell._service

        def counted(shell: AdbShell, name: str) -> object:
            services.append(name)
            return real(shell, name)

        models = write_models(tmp_path, 30)
        with quick_device.open(SETTING) as session:
            session.describe()
            monkeypatch.setattr(AdbShell, "_service", counted)
            outcomes = list(session.measure(TimingRequest(n, p) for n, p in enumerate(models)))
        assert all(isinstance(outcome, Sample) for outcome in outcomes)
        assert len(services) <= 3  # the models, the script, the run


class TestOldDevice:
    """A phone older than adb's shell protocol: adb itself tells no command's exit status."""

    def test_times_models(
        self,
        old_phone: str,
        phone: Phone,
        adb_server: AdbServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert "shell_v2" in adb_server.run("-s", phone.serial, "features").stdout
        assert "shell_v2" not in adb_server.run("-s", old_phone, "features").stdout
        monkeypatch.setenv(ENVIRONMENT, str(write_program(tmp_path)))
        models = write_models(tmp_path, 5)
        with AndroidDevice(old_phone).open(SETTING) as session:
            assert session.describe().core_mask == "80"
            outcomes = list(session.measure(TimingRequest(n, p) for n, p in enumerate(models)))
        for model, outcome in zip(models, outcomes, strict=True):
            assert isinstance(outcome, Sample), outcome
            assert outcome.block_ms[0] == pytest.approx(latency_ms(model))
        assert not list(phone.files.iterdir())

    def test_tells_that_a_command_failed(self, old_phone: str) -> None:
        result = AdbShell(old_phone).run("echo said; exit 3")
        assert (result.status, result.output) == (3, "said")


class TestThermalGate:
    def test_a_throttling_phone_is_left_to_cool_and_its_visits_repeated(
        self,
        quick_device: AndroidDevice,
        phone: Phone,
        tmp_path: Path,
    ) -> None:
        pauses: list[float] = []

        def cool(seconds: float) -> None:
            pauses.append(seconds)
            phone.set_thermal_status(0)

        models = write_models(tmp_path, 4)
        heat = after_visits(4, lambda: phone.set_thermal_status(3))
        summary = measure(quick_device, tmp_path / "phone.lut", models, heat, sleep=cool)
        assert pauses == [5.0]
        assert summary.flagged_visits >= 1
        assert summary.stable == 4

    @pytest.mark.timed
    def test_a_reference_that_slows_closes_the_gate_too(
        self, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow = "[ -e /data/local/tmp/hot ] && us=$((us * 2))"
        monkeypatch.setenv(ENVIRONMENT, str(write_program(tmp_path, slow)))
        pauses: list[float] = []

        def cool(seconds: float) -> None:
            pauses.append(seconds)
            (phone.files / "hot").unlink(missing_ok=True)

        models = write_models(tmp_path, 4)
        heat = after_visits(5, lambda: (phone.files / "hot").touch())
        summary = measure(
            AndroidDevice(phone.serial), tmp_path / "phone.lut", models, heat, sleep=cool
        )
        assert pauses
        assert summary.flagged_visits >= 1
        assert summary.stable == 4


class TestDoctor:
    def test_measures_the_noise_floor(self, device: AndroidDevice) -> None:
        diagnosis = examine(device)
        assert diagnosis.noise_percent is not None
        assert any("core 7" in finding for finding in diagnosis.findings)
