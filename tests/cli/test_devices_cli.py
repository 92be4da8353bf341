"""`lutra devices` and `lutra doctor`: what is attached, what it can do, what to do about it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lutra
from lutra.cli.main import run
from lutra.devices.base import (
    Device,
    DeviceInfo,
    Health,
    Outcome,
    RuntimeConfig,
    RuntimeInfo,
    Session,
    SystemShare,
    TimingRequest,
)
from lutra.devices.benchmark_model import binary
from lutra.devices.fake import FakeDevice, FakeScript, FakeSession
from lutra.errors import DeviceError, PermanentDeviceError, TransientDeviceError, UsageError
from lutra.profiler.bench import choose_runtime
from lutra.profiler.doctor import examine
from tests.devices.benchmark_model.programs import write_program
from tests.peers.adb_server import AdbServer
from tests.peers.phone import Phone
from tests.toys import Toy, ToyDevice, install_toys

Capture = pytest.CaptureFixture[str]
SCRIPT = "#!/bin/sh\nexit 0\n"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, with no benchmark_model in it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv(binary.ENVIRONMENT, raising=False)
    return folder


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have adb know devices (serial -> state); no adb server is asked."""

    def attach(states: dict[str, str] | Exception, **devices: Device) -> None:
        def attached() -> dict[str, str]:
            if isinstance(states, Exception):
                raise states
            return states

        def open_device(spec: str) -> Device:
            scheme, _, serial = spec.partition(":")
            if scheme != "adb":
                return opened(spec)
            if serial not in devices:
                raise TransientDeviceError(f"{spec} does not answer")
            return devices[serial]

        opened = lutra.open_device
        monkeypatch.setattr("lutra.devices.android.attached", attached)
        monkeypatch.setattr(lutra, "open_device", open_device)

    return attach


class Android(FakeDevice):
    """A fake Android device."""

    def __init__(self, architecture: str = "arm64-v8a") -> None:
        super().__init__(FakeScript())
        self._architecture = architecture

    def info(self) -> DeviceInfo:
        return replace(
            super().info(),
            spec="adb:X",
            kind="android",
            model="Pixel \x1b[31m9",
            architecture=self._architecture,
            governor="schedutil",
        )

    def runtimes(self) -> tuple[str, ...]:
        return ("benchmark_model",)


def devices_json(capsys: Capture, *arguments: str) -> Any:
    assert run(["devices", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# lutra devices


def test_an_adb_server_is_left_as_it_was(adb_server: AdbServer) -> None:
    command = [sys.executable, "-m", "lutra", "devices", "--json"]
    for runs in (True, False):
        if not runs:
            adb_server.close()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert [item["spec"] for item in json.loads(done.stdout)["devices"]] == ["cpu"]
        assert done.stderr == ""
        assert adb_server._answers() == runs


def test_the_cpu_and_every_android_device_are_listed(
    attach: Callable[..., None], capsys: Capture
) -> None:
    attach({"X": "device", "Y": "unauthorized", "Z": "device"}, X=Android())
    cpu, usable, unauthorized, silent = devices_json(capsys)["devices"]
    assert cpu["spec"] == "cpu"
    assert "onnxruntime" in cpu["runtimes"]
    assert usable["spec"] == "adb:X"
    assert usable["runtimes"] == ["benchmark_model"]
    assert usable["architecture"] == "arm64-v8a"
    assert unauthorized["spec"] == "adb:Y"
    assert "Allow USB debugging" in unauthorized["advice"]
    assert silent["advice"] == "adb:Z does not answer"
    assert "runtimes" not in unauthorized
    assert "runtimes" not in silent


def test_people_see_what_to_do_and_how_to_name_a_board(
    attach: Callable[..., None], capsys: Capture
) -> None:
    attach({"X": "device", "Y\x1b[31m": "offline"}, X=Android())
    assert run(["devices"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split()[0] for line in lines] == ["spec", "cpu", "adb:X", "adb:Y?[31m"]
    assert "unplug it and plug it in again" in lines[3]
    assert "ssh:user@host" in captured.err
    assert "no benchmark_model for android_arm64" in captured.err
    assert "--fetch-benchmark" in captured.err
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize("error", [TransientDeviceError("the adb server is gone"), OSError("bad")])
def test_what_cannot_look_is_listed_too(
    error: Exception, attach: Callable[..., None], capsys: Capture
) -> None:
    attach(error)
    cpu, adb = devices_json(capsys)["devices"]
    assert cpu["spec"] == "cpu"
    assert adb == {"spec": "adb", "what": "cannot be listed", "advice": str(error)}


def test_a_broken_adbutils_hides_nothing_else(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lutra.devices.android", None)
    cpu, adb = devices_json(capsys)["devices"]
    assert cpu["spec"] == "cpu"
    assert "lutra.devices.android" in adb["advice"]


def test_the_user_s_own_benchmark_is_kept(tmp_path: Path, cache: Path, capsys: Capture) -> None:
    program = tmp_path / "my build"
    program.write_text(SCRIPT)
    arguments = ["--use-benchmark", str(program), "--platform", "android_arm64"]
    (kept,) = devices_json(capsys, *arguments)["programs"]
    assert kept["platform"] == "android_arm64"
    assert kept["digest"] == binary.digest(program)
    assert Path(kept["path"]).read_text() == SCRIPT
    assert Path(kept["path"]).is_relative_to(cache)
    assert run(["devices", *arguments]) == 0
    assert kept["path"] in capsys.readouterr().out


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What was asked for of the stub that stands for the download."""
    asked: list[tuple[str, str | None]] = []

    def fetch(
        platform: str, *, build: str | None, sha256: str | None, say: Callable[[str], None]
    ) -> Path:
        assert build in (None, "interpreter")
        asked.append((platform, sha256))
        say(f"fetched {platform}")
        path = tmp_path / platform / "benchmark_model"
        path.parent.mkdir()
        path.write_text(SCRIPT)
        return path

    monkeypatch.setattr(binary, "fetch_benchmark", fetch)
    return asked


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--fetch-benchmark"], [("android_arm", None), ("android_arm64", None)]),
        (["--fetch-benchmark", "linux_arm64"], [("linux_arm64", None)]),
        (["--fetch-benchmark=linux_arm", "--sha256", "ab"], [("linux_arm", "ab")]),
        (["--fetch-benchmark=linux_arm", "--build", "interpreter"], [("linux_arm", None)]),
    ],
)
def test_a_benchmark_is_fetched(
    arguments: list[str],
    asked: list[tuple[str, str | None]],
    fetched: list[tuple[str, str | None]],
    attach: Callable[..., None],
    capsys: Capture,
) -> None:
    """By default for the attached devices: each platform once."""
    attach(
        {"A": "device", "B": "device", "C": "device", "D": "device", "E": "offline"},
        A=Android(),
        B=Android("armeabi-v7a"),
        C=Android(),
        D=Android("riscv64"),
    )
    programs = devices_json(capsys, *arguments)["programs"]
    assert fetched == asked
    assert [program["platform"] for program in programs] == [platform for platform, _ in asked]
    assert all(len(program["digest"]) == 12 for program in programs)


def test_without_a_phone_the_usual_platform_is_fetched(
    fetched: list[tuple[str, str | None]], attach: Callable[..., None], capsys: Capture
) -> None:
    attach({})
    assert run(["devices", "--fetch-benchmark"]) == 0
    assert fetched == [("android_arm64", None)]
    captured = capsys.readouterr()
    assert "fetched android_arm64" in captured.err
    assert "android_arm64" in captured.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fetch-benchmark", "linux_arm64", "--use-benchmark", "x"], "exclude each other"),
        (["--sha256", "ab"], "go with --fetch-benchmark"),
        (["--build", "interpreter"], "go with --fetch-benchmark"),
        (["--fetch-benchmark", "android_arm", "--build", "compiled-model"], "no compiled-model"),
        (["--platform", "linux_arm"], "goes with --use-benchmark"),
        (["--fetch-benchmark", "toaster"], "unknown platform 'toaster'"),
        (["--fetch-benchmark", "linux_arm64", "--sha256", "ab"], "is no SHA-256"),
        (["--use-benchmark", "x"], "cannot read x"),
    ],
)
def test_bad_options_of_devices(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["devices", *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert says in line
    assert captured.out == ""


def test_one_digest_is_of_one_program(
    fetched: list[object], attach: Callable[..., None], capsys: Capture
) -> None:
    attach({"A": "device", "B": "device"}, A=Android(), B=Android("armeabi-v7a"))
    assert run(["devices", "--fetch-benchmark", "--sha256", "ab"]) == 2
    assert "--sha256 is of one program" in capsys.readouterr().err
    assert fetched == []


# lutra doctor


def doctor_json(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    assert run(["doctor", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def toys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    install_toys(
        tmp_path_factory.mktemp("toys"),
        monkeypatch,
        good=Toy(runtimes=("litert",), advice=("it is blue", "it is \x1b[1m round")),
        bare=Toy(runtimes=(), advice=("install litert on it", "it is blue")),
        dead=Toy(dies_after=0),
    )


def test_doctor_measures_with_the_device_s_first_runtime(toys: None, capsys: Capture) -> None:
    found = doctor_json(capsys, "toy:good")
    assert found["runtime"] == "litert"
    assert found["noise_percent"] < 1.0
    assert found["fit"] is True
    assert found["findings"][0] == "it is blue"
    assert run(["doctor", "toy:good"]) == 0
    captured = capsys.readouterr()
    assert "- it is ?[1m round" in captured.err
    rows = dict(line.split(None, 1) for line in captured.out.splitlines())
    assert rows["temperature_c"] == "-"


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        ("toy:bare", "toy:bare has no runtime: install litert on it"),
        ("toy:dead", "toy:dead: it does not answer"),
    ],
)
def test_doctor_says_what_keeps_a_device_from_being_measured(
    spec: str, first: str, toys: None, capsys: Capture
) -> None:
    found = doctor_json(capsys, spec, code=3)
    assert found["noise_percent"] is None
    assert found["fit"] is False
    assert found["findings"][0] == first
    assert found["info"]["spec"] == spec
    assert run(["doctor", spec]) == 3
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].split() == ["noise_percent", "-"]
    assert captured.err.splitlines()[-1] == "not fit to measure on"


def test_doctor_refuses_what_the_caller_got_wrong(toys: None, capsys: Capture) -> None:
    for arguments in (["--runtime", "tvm"], ["--option", "x=y"]):
        assert run(["doctor", "toy:good", *arguments]) == 2
        assert capsys.readouterr().out == ""


class Sick(ToyDevice):
    """A device of some kind that is hot, with a governor, and whose session may not open."""

    def __init__(self, kind: str = "board", error: Exception | None = None) -> None:
        super().__init__("sick", Toy(kind=kind, advice=("no program: get one",)))
        self._error = error

    def info(self) -> DeviceInfo:
        return replace(super().info(), governor="ondemand")

    def health(self) -> Health:
        return Health(throttled=True, temperature_c=99.0)

    def open(self, config: RuntimeConfig) -> Session:
        if self._error is not None:
            raise self._error
        return super().open(config)


@pytest.mark.parametrize(
    ("kind", "says"), [("board", True), ("cpu", True), ("android", False), ("toy", False)]
)
def test_only_what_cpupower_can_hold_is_told_of_it(kind: str, says: bool) -> None:
    findings = examine(Sick(kind)).findings
    assert any("cpupower" in finding for finding in findings) is says
    assert "the device is throttling: let it cool down" in findings
    assert "99 degC: let it cool down" in findings
    assert findings[-1] == "no program: get one"


def test_a_session_that_does_not_open_is_a_finding_told_once() -> None:
    diagnosis = examine(Sick(error=PermanentDeviceError("no program: get one")))
    assert not diagnosis.fit
    assert diagnosis.findings.count("no program: get one") == 1
    assert diagnosis.findings[0] == "no program: get one"


def test_a_wrong_setting_is_a_finding_unless_the_caller_chose_it() -> None:
    """$LUTRA_BENCHMARK_MODEL may name a file that is gone: that is about the device's state."""
    device = Sick(error=UsageError("$X names nothing"))
    assert examine(device).findings[0] == "$X names nothing"
    with pytest.raises(UsageError):
        examine(device, "onnxruntime")


class Slow(FakeDevice):
    """Each visit takes two seconds; a batch is answered when all of it is asked."""

    def __init__(self, batch: int) -> None:
        super().__init__(FakeScript())
        self.batch = batch
        self.now = 0.0
        self.asked: list[int] = []

    def open(self, config: RuntimeConfig) -> Session:
        device = self

        class SlowSession(FakeSession):
            batch = device.batch

            def describe(self) -> RuntimeInfo:
                return RuntimeInfo("onnxruntime", "0", "scripted", "1")

            def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
                batch = list(requests)
                device.asked.append(len(batch))
                device.now += 2.0 * len(batch)
                return super().measure(batch)

        return SlowSession(self.script, config)


@pytest.mark.parametrize(("batch", "calls"), [(1, [1] * 6), (4, [4, 2]), (32, [6])])
def test_the_noise_floor_of_a_slow_device_takes_few_visits(batch: int, calls: list[int]) -> None:
    """Three visits of each of the two references, no more than a batch at a time."""
    device = Slow(batch)
    diagnosis = examine(device, clock=lambda: device.now)
    assert device.asked == calls
    assert diagnosis.noise_percent is not None


def test_a_core_that_is_shared_is_no_place_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SystemShare(0.5, 0.0, 20, 0, 1.0)
    script = FakeScript(system=lambda answered: shared if answered % 2 else None)
    named = Health(other_processes=("train.py (pid 7, 99 % of a core)",))
    monkeypatch.setattr(FakeDevice, "health", lambda device: named)
    diagnosis = examine(FakeDevice(script))
    assert diagnosis.shared_percent == 50
    assert not diagnosis.fit
    assert diagnosis.findings[0].startswith(
        "50 % of the visits shared their core or GPU with train.py (pid 7, 99 % of a core): stop it"
    )
    calm = examine(FakeDevice(FakeScript()))
    assert (calm.shared_percent, calm.fit) == (0, True)


def test_the_runtime_of_a_device() -> None:
    assert choose_runtime(ToyDevice("a", Toy())) == "onnxruntime"
    assert choose_runtime(ToyDevice("a", Toy(runtimes=("torch", "litert")))) == "torch"
    assert choose_runtime(ToyDevice("a", Toy(runtimes=("torch", "litert"))), "tflite") == "litert"
    for toy, says in (
        (Toy(runtimes=()), "toy:a has no runtime: install one"),
        (Toy(runtimes=("torch",)), "no runtime that loads .tflite .*it has: torch"),
    ):
        with pytest.raises(DeviceError, match=says):
            choose_runtime(ToyDevice("a", toy), "tflite")


# a real adbd


def test_a_phone_is_listed_examined_and_profiled(
    phone: Phone,
    adb_server: AdbServer,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adb_server.run("connect", phone.serial)
    spec = f"adb:{phone.serial}"
    usable = devices_json(capsys)["devices"][1]
    assert usable["spec"] == spec
    assert usable["model"] == "Google Pixel Test (Lutra LT8)"
    assert usable["runtimes"] == ["benchmark_model"]
    found = doctor_json(capsys, spec, code=3)
    assert "no benchmark_model for android_x86_64" in found["findings"][0]
    program = write_program(tmp_path, "sleep 0.02")
    monkeypatch.setenv(binary.ENVIRONMENT, str(program))
    found = doctor_json(capsys, spec)
    assert found["noise_percent"] == 0.0
    assert found["runtime"] == "benchmark_model"
    assert not any("cpupower" in finding for finding in found["findings"])
    assert run(["profile", spec, "fake", "-o", f"{tmp_path}/tables/", "--budget", "1s"]) == 3
    errors = capsys.readouterr().err
    assert f"{spec}: benchmark_model (xnnpack, 1 thread, core " in errors
    tables = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert tables == [f"adb_{phone.serial.replace(':', '_')}.lut", "fake.lut"]
