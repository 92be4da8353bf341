"""What an Android device can do to a run, done to it: the real adbd breaks in every way it can.

docs/faults.md lists each with its test. After each, the run is complete, or it stopped with one
line and goes on when started again; no row is wrong, none is lost, none is zero.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lutra.devices.android import AndroidDevice
from lutra.devices.base import RequestFailure, RuntimeConfig, Sample, TimingRequest
from lutra.devices.benchmark_model.binary import ENVIRONMENT
from lutra.devices.remote import adb_shell
from lutra.devices.remote.adb_shell import AdbShell
from lutra.devices.remote.shell import StorageFull
from lutra.errors import DeviceError, PermanentDeviceError, TransientDeviceError, UsageError
from tests.devices.benchmark_model.programs import (
    RESULT,
    write_compiled_model_program,
    write_models,
    write_program,
)
from tests.devices.remote.runs import SETTING, after_visits, check_table, measure, when
from tests.peers.phone import Phone


@pytest.fixture
def use_program(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have the adapter find this program."""

    def use(program: Path) -> None:
        monkeypatch.setenv(ENVIRONMENT, str(program))

    return use


@pytest.fixture
def device(
    phone: Phone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_program: Callable[[Path], None],
) -> AndroidDevice:
    """The phone, with a program whose runs take 30 ms; waits for it are short."""
    monkeypatch.setattr(AdbShell, "patience_seconds", 20.0)
    monkeypatch.setattr(adb_shell, "_ANSWER_SECONDS", 2.0)
    folder = tmp_path / "program"
    folder.mkdir()
    use_program(write_program(folder, "sleep 0.03"))
    return AndroidDevice(phone.serial)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Five models."""
    folder = tmp_path / "models"
    folder.mkdir()
    return write_models(folder, 5)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "phone.lut"


@pytest.fixture
def phone_left_clean(phone: Phone) -> Iterator[None]:
    """At the end nothing of ours is on the phone; a keeper may take a moment."""
    yield
    deadline = time.monotonic() + 10
    while (left := list(phone.files.glob("lutra-*"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def only_the_first_fails(device: AndroidDevice, models: list[Path]) -> RequestFailure:
    """Time each model in one session; the failure of the first."""
    requests = [TimingRequest(n, path, limit_seconds=1.0) for n, path in enumerate(models)]
    with device.open(SETTING) as session:
        broken, *others = session.measure(requests)
    assert isinstance(broken, RequestFailure)
    assert all(isinstance(outcome, Sample) for outcome in others)
    return broken


@pytest.mark.usefixtures("phone_left_clean")
class TestLink:
    def test_adbd_killed_while_pushing(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        models[0].write_bytes(b"." * 60_000_000)
        arrived: list[int] = []

        def size() -> int:
            return max((f.stat().st_size for f in phone.files.glob("lutra-*/*.model")), default=0)

        def kill() -> None:
            phone.freeze()
            arrived.append(size())
            phone.kill_adbd()

        with when(lambda: size() > 1_000_000, kill):
            measure(device, table, models)
        assert 1_000_000 < arrived[0] < 60_000_000
        check_table(table, models)

    def test_adbd_killed_while_running(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        measure(device, table, models, after_visits(3, phone.kill_adbd))
        check_table(table, models)

    def test_adbd_killed_again_and_again(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        def kill(progress: object) -> None:
            kills.append(1)
            if len(kills) in (2, 5, 9):
                phone.kill_adbd()

        kills: list[int] = []
        measure(device, table, models, kill)
        assert len(kills) > 9
        check_table(table, models)

    def test_adbd_killed_while_results_come_back(
        self,
        device: AndroidDevice,
        phone: Phone,
        models: list[Path],
        table: Path,
        tmp_path: Path,
        use_program: Callable[[Path], None],
    ) -> None:
        """Results stream while models run, nothing is pulled: here one is cut in its middle."""
        closing = 'echo "INFO: Inf'
        half = '[ -e ../cut ] && { printf "INFO: Inf"; mv ../cut ../half; sleep 10; }\n'
        result = RESULT.replace(closing, half + closing)
        assert result != RESULT
        use_program(write_program(tmp_path / "program", result=result))
        with when((phone.files / "half").exists, phone.kill_adbd):
            measure(device, table, models, after_visits(2, (phone.files / "cut").touch))
        check_table(table, models)

    def test_adbd_stopped_and_continued(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        def freeze() -> None:
            phone.freeze()
            threading.Timer(4.0, phone.thaw).start()

        measure(device, table, models, after_visits(3, freeze))
        check_table(table, models)

    @pytest.mark.slow
    def test_adbd_stopped_for_good(
        self,
        device: AndroidDevice,
        phone: Phone,
        models: list[Path],
        table: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(AdbShell, "patience_seconds", 1.0)
        with pytest.raises(TransientDeviceError, match="the same command resumes") as error:
            measure(device, table, models, after_visits(6, phone.freeze))
        assert "\n" not in str(error.value)
        phone.thaw()
        measure(device, table, models)
        check_table(table, models)

    def test_link_down_and_up(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        def cut() -> None:
            phone.network.down()
            threading.Timer(4.0, phone.network.up).start()

        measure(device, table, models, after_visits(3, cut))
        check_table(table, models)

    def test_reboot(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        measure(device, table, models, after_visits(7, phone.reboot))
        check_table(table, models)

    def test_switched_off_and_on_between_runs(
        self,
        device: AndroidDevice,
        phone: Phone,
        models: list[Path],
        table: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(AdbShell, "patience_seconds", 1.0)
        with pytest.raises(TransientDeviceError, match="did not come back"):
            measure(device, table, models, after_visits(6, phone.kill))
        with pytest.raises(TransientDeviceError, match="no device|does not answer|offline"):
            measure(AndroidDevice(phone.serial), table, models)
        phone.start()
        measure(AndroidDevice(phone.serial), table, models)
        check_table(table, models)


@pytest.mark.usefixtures("phone_left_clean")
class TestStorage:
    def test_full_storage_stops_with_a_line_and_resumes(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        measure(device, table, models[:2])
        filler = phone.files / "holiday.mp4"
        with filler.open("wb") as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(b"." * (1 << 20))
                file.flush()
        with pytest.raises(StorageFull, match="the same command resumes"):
            measure(device, table, models)
        filler.unlink()
        measure(device, table, models)
        check_table(table, models)

    def test_a_model_that_never_fits(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        with models[0].open("wb") as file:
            file.truncate(400 << 20)
        with pytest.raises(StorageFull):
            measure(device, table, models)
        with models[0].open("wb") as file:
            file.write(b"." * 999)
        measure(device, table, models)
        check_table(table, models)


@pytest.mark.usefixtures("phone_left_clean")
class TestProgram:
    def test_missing(
        self, device: AndroidDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(ENVIRONMENT)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        with pytest.raises(PermanentDeviceError, match="--use-benchmark"):
            device.open(SETTING)
        assert any("--use-benchmark" in sentence for sentence in device.advice())

    def test_its_file_is_not_there(
        self, device: AndroidDevice, use_program: Callable[[Path], None], tmp_path: Path
    ) -> None:
        use_program(tmp_path / "nowhere")
        with pytest.raises(UsageError, match="nowhere"):
            device.open(SETTING)
        assert any("nowhere" in sentence for sentence in device.advice())

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("#!/no/such/interpreter\n", "not found|No such file|inaccessible"),
            ("#!/bin/sh\nexit 0\n", "nothing"),
            ("#!/bin/sh\nhead -c 30000 /dev/urandom\n", "cannot be used"),
            ("#!/bin/sh\nyes garbage | head -n 50000\n", "garbage"),
            ("#!/bin/sh\necho 'ERROR: Failed to load' >&2; exit 1\n", "Failed to load"),
            ("#!/bin/sh\nkill -SEGV $$\n", "signal 11"),
            ("#!/bin/sh\nsleep 100\n", "no end within"),
            ("#!/bin/sh\nyes garbage\n", "no end within"),
        ],
        ids=[
            "cannot start",
            "prints nothing",
            "noise",
            "garbage",
            "fails",
            "crashes",
            "hangs",
            "floods",
        ],
    )
    def test_one_that_never_works_is_refused_at_once(
        self,
        device: AndroidDevice,
        use_program: Callable[[Path], None],
        tmp_path: Path,
        text: str,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("lutra.devices.benchmark_model.session._PROBE_SECONDS", 1.5)
        program = tmp_path / "broken"
        program.write_text(text)
        use_program(program)
        with device.open(SETTING) as session, pytest.raises(PermanentDeviceError, match=said):
            session.describe()

    def test_no_execute_permission_on_this_side(
        self, device: AndroidDevice, models: list[Path], table: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "program" / "benchmark_model").chmod(0o600)
        measure(device, table, models)
        check_table(table, models)

    def test_removed_from_the_device_in_the_middle(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        def remove() -> None:
            (path,) = phone.files.glob("lutra-*/benchmark_model")
            path.unlink()

        measure(device, table, models, after_visits(6, remove))
        check_table(table, models)

    def test_loses_its_execute_permission_in_the_middle(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        def forbid() -> None:
            (path,) = phone.files.glob("lutra-*/benchmark_model")
            path.chmod(0o600)

        measure(device, table, models, after_visits(6, forbid))
        check_table(table, models)

    @pytest.mark.parametrize(
        ("before", "kind", "said"),
        [
            ('[ "$head" = break ] && kill -SEGV $$', "crash", "signal 11"),
            ('[ "$head" = break ] && sleep 1000', "timeout", "no end within"),
            ('[ "$head" = break ] && { echo "ERROR: bad op" >&2; exit 1; }', "run", "bad op"),
            (
                '[ "$head" = break ] && { head -c 9999 /dev/urandom; exit 0; }',
                "run",
                "measured nothing",
            ),
            ('[ "$head" = break ] && us=0', "run", "0"),
            ('[ "$head" = break ] && { yes much | head -c 3000000; exit 0; }', "run", "muc"),
            ('[ "$head" = break ] && exec yes flood', "timeout", "no end within"),
        ],
        ids=[
            "crashes",
            "hangs",
            "fails",
            "garbage",
            "zero",
            "much",
            "floods",
        ],
    )
    def test_breaks_on_one_model(
        self,
        device: AndroidDevice,
        models: list[Path],
        table: Path,
        tmp_path: Path,
        use_program: Callable[[Path], None],
        before: str,
        kind: str,
        said: str,
    ) -> None:
        use_program(write_program(tmp_path / "program", before))
        write_models(models[0].parent, 5, head="break")
        broken = only_the_first_fails(device, models)
        assert broken.kind == kind, broken.message
        assert said in broken.message
        measure(device, table, models)
        check_table(table, models, failed=models[:1])

    @pytest.mark.parametrize(
        "flood", ["yes flood", "exec cat /dev/zero"], ids=["child", "one line"]
    )
    def test_floods_otherwise(
        self,
        device: AndroidDevice,
        models: list[Path],
        tmp_path: Path,
        use_program: Callable[[Path], None],
        flood: str,
    ) -> None:
        use_program(write_program(tmp_path / "program", f'[ "$head" = break ] && {flood}'))
        write_models(models[0].parent, 5, head="break")
        broken = only_the_first_fails(device, models)
        assert broken.kind == "timeout", broken.message
        assert "no end within" in broken.message

    def test_a_hung_program_is_ended_on_the_device(
        self,
        device: AndroidDevice,
        phone: Phone,
        models: list[Path],
        tmp_path: Path,
        use_program: Callable[[Path], None],
    ) -> None:
        use_program(write_program(tmp_path / "program", '[ "$head" = break ] && exec sleep 1234'))
        write_models(models[0].parent, 5, head="break")

        def runs() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):
                return any("1234" in process.cmdline() for process in phone.machine.processes(True))
            return False

        with device.open(SETTING) as session:
            session.describe()
            with when(runs, lambda: None):
                (outcome,) = session.measure([TimingRequest(0, models[0], limit_seconds=1.0)])
            assert isinstance(outcome, RequestFailure)
            assert outcome.kind == "timeout"
            assert "1234" not in AdbShell(phone.serial).run("ps -A -o ARGS").output

    def test_the_other_program_of_that_name(
        self,
        device: AndroidDevice,
        models: list[Path],
        table: Path,
        tmp_path: Path,
        use_program: Callable[[Path], None],
    ) -> None:
        use_program(write_compiled_model_program(tmp_path / "program"))
        measure(device, table, models)
        check_table(table, models)
        with device.open(SETTING) as session:
            assert session.describe().version.startswith("compiled-model ")

    def test_ignores_a_flag(
        self, device: AndroidDevice, tmp_path: Path, use_program: Callable[[Path], None]
    ) -> None:
        ignore = 'echo "WARN: Unconsumed cmdline flags: --use_gpu=true"'
        use_program(write_program(tmp_path / "program", ignore))
        config = RuntimeConfig("benchmark_model", options={"delegate": "gpu"})
        with device.open(config) as session, pytest.raises(PermanentDeviceError, match="use_gpu"):
            session.describe()

    def test_says_nothing_of_the_delegate_asked_for(
        self, device: AndroidDevice, tmp_path: Path, use_program: Callable[[Path], None]
    ) -> None:
        config = RuntimeConfig("benchmark_model", options={"delegate": "gpu"})
        with device.open(config) as session, pytest.raises(PermanentDeviceError, match="'gpu'"):
            session.describe()
        applied = (
            "INFO: Explicitly applied GPU delegate, and the model graph will be completely"
            " executed by the delegate."
        )
        use_program(write_program(tmp_path / "program", f'echo "{applied}"'))
        with device.open(config) as session:
            assert session.describe().delegate == "gpu"

    @pytest.mark.parametrize(
        "line",
        [
            "INFO: Though GPU delegate is explicitly applied, the model graph will not be"
            " executed by the delegate.",
            "WARN: The GPU delegate is not supported on this platform",
            "ERROR: Failed to apply GPU delegate.",
        ],
    )
    def test_goes_on_without_the_delegate(
        self, device: AndroidDevice, tmp_path: Path, use_program: Callable[[Path], None], line: str
    ) -> None:
        use_program(write_program(tmp_path / "program", f"echo '{line}'"))
        config = RuntimeConfig("benchmark_model", options={"delegate": "gpu"})
        with device.open(config) as session, pytest.raises(PermanentDeviceError, match="GPU"):
            session.describe()


class TestCores:
    def test_a_core_that_goes_off_in_the_middle_costs_no_model_its_row(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        """The real taskset then refuses; phones switch cores off when they are hot."""
        shim = phone.shims / "taskset"
        usual = shim.read_text()
        refuse = (
            '#!/bin/sh\necho "taskset: failed to set pid 1\'s affinity: Invalid argument"\nexit 1\n'
        )

        with pytest.raises(TransientDeviceError, match="taskset"):
            measure(device, table, models, after_visits(5, lambda: shim.write_text(refuse)))
        shim.write_text(usual)
        measure(device, table, models)
        check_table(table, models)

    def test_a_core_that_stays_off_stops_the_run(
        self, device: AndroidDevice, phone: Phone, models: list[Path], table: Path
    ) -> None:
        (phone.sys / "devices/system/cpu/online").write_text("0-6\n")
        with pytest.raises(TransientDeviceError, match="core 7 .* is switched off"):
            measure(AndroidDevice(phone.serial), table, models)


class TestRest:
    def test_the_clock_of_the_device_is_wrong(
        self,
        device: AndroidDevice,
        phone: Phone,
        models: list[Path],
        table: Path,
        tmp_path: Path,
        use_program: Callable[[Path], None],
    ) -> None:
        """Nothing asks the device what time it is: files it dates to 1970 are no older to us."""
        old = 'touch -d 1970-01-02T00:00:00 "$graph" benchmark_model'
        use_program(write_program(tmp_path / "program", old))

        def check() -> None:
            assert any(path.stat().st_mtime < 1e6 for path in phone.files.glob("lutra-*/*.model"))

        measure(device, table, models, after_visits(6, check))
        check_table(table, models)

    def test_strange_names_are_never_executed(
        self,
        device: AndroidDevice,
        phone: Phone,
        table: Path,
        tmp_path: Path,
        use_program: Callable[[Path], None],
    ) -> None:
        folder = tmp_path / "a b'c\"d;touch pwned;$(touch pwned2)"
        folder.mkdir()
        program = write_program(folder)
        use_program(program.rename(folder / "bench $(touch pwned3); '\" model"))
        names = [
            "a b",
            "it's",
            'say "x"',
            "x;touch pwned4",
            "$(touch pwned5)",
            "`touch pwned6`",
            "-n",
        ]
        models = write_models(folder, len(names))
        models = [path.rename(folder / name) for path, name in zip(models, names, strict=True)]
        measure(device, table, models)
        check_table(table, models)
        found = AdbShell(phone.serial).run("find / -name 'pwned*' 2>/dev/null").output
        assert not found
        assert not list(Path.cwd().glob("pwned*"))

    @pytest.mark.parametrize(
        "serial", ["$(touch pwned)", "a b", "x;reboot", "'", '"', "no such", "10.0.0.1:99999999"]
    )
    def test_a_strange_serial_is_no_device(self, phone: Phone, serial: str) -> None:
        with pytest.raises(DeviceError) as error:
            AndroidDevice(serial).info()
        assert "\n" not in str(error.value)
        assert not list(Path.cwd().glob("pwned*"))

    def test_a_model_cut_short_on_the_device_is_sent_again(
        self, device: AndroidDevice, phone: Phone, models: list[Path]
    ) -> None:
        requests = [TimingRequest(number, path) for number, path in enumerate(models)]
        with device.open(SETTING) as session:
            before = list(session.measure(requests))
            sent = list(phone.files.glob("lutra-*/*.model"))
            assert len(sent) == 1 + len(models)  # and the one that told which program it is
            for path in sent:
                path.write_bytes(path.read_bytes()[:-1])
            after = list(session.measure(requests))
        for first, second in zip(before, after, strict=True):
            assert isinstance(first, Sample)
            assert isinstance(second, Sample)
            assert first.block_ms == second.block_ms
