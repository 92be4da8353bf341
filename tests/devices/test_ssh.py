"""The SSH adapter on a board under the real sshd: what works, and every way it can break."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lutra.devices.base import Device, RequestFailure, RuntimeConfig, Sample, TimingRequest
from lutra.devices.benchmark_model.binary import ENVIRONMENT
from lutra.devices.registry import open_device
from lutra.devices.remote.channel import LinkLost
from lutra.devices.remote.folder import RemoteFolder
from lutra.devices.remote.shell import StorageFull
from lutra.devices.remote.ssh.shell import SshShell, parse_address
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.devices.ssh import SshDevice
from lutra.emitters.emission import Emission
from lutra.errors import DeviceError, PermanentDeviceError, TransientDeviceError, UsageError
from lutra.ops import Conv, Shape
from lutra.profiler.bench import open_bench, open_or_create
from lutra.profiler.networks.model_files import profile_models
from lutra.profiler.watch import Progress, Watch
from lutra.profiler.workload import ModelStore, op_workload
from lutra.tables import LatencyTable
from lutra.testing import DeviceContract
from tests.devices.benchmark_model.programs import write_models, write_program
from tests.devices.lasting import LastingContract
from tests.devices.remote.runs import QUICK, after_visits, check_table, it_happens, measure
from tests.emitters.test_model_file import external
from tests.peers.board import Board
from tests.peers.fixtures import as_client_of

SETTING = RuntimeConfig("onnxruntime")


def address_of(board: Board) -> str:
    return f"{board.user}@{board.address}:{board.port}"


@pytest.fixture
def device(board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshDevice]:
    """The board; a lost link is waited for 20 seconds."""
    monkeypatch.setattr(SshShell, "patience_seconds", 20.0)
    device = SshDevice(address_of(board))
    yield device
    device.close()


@pytest.fixture
def board_left_clean(board: Board) -> Iterator[None]:
    """At the end nothing of ours is in the board's temporary folder."""
    yield
    assert not list(board.files.glob("lutra-*"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    op = Conv(Shape(8, 8, 8), 8, kernel=3)
    return ModelStore(tmp_path).path(op_workload(op, Emission()))


def run(
    device: Device, table: Path, on_progress: Callable[[Progress], None] = lambda _: None
) -> None:
    """Profile four ops into a table; a `Fault` must happen."""
    workloads = [
        op_workload(Conv(Shape(8, 8, 8), 8 * n, kernel=3), Emission()) for n in range(1, 5)
    ]
    with (
        it_happens(on_progress),
        open_bench(device, SETTING) as bench,
        open_or_create(table, bench.target) as opened,
    ):
        bench.measure(opened, workloads, QUICK, watch=Watch(on_progress=on_progress))
    with LatencyTable.open(table) as opened:
        rows = opened.rows("op")
        assert [row.failure for row in rows] == [None] * 4
        for row in rows:
            assert row.measurement is not None
            assert row.measurement.latency_ms > 0
            assert len(opened.visits("op", row.key)) >= 3


@contextlib.contextmanager
def login_shell(board: Board, before: str) -> Iterator[None]:
    """The board's user has a login shell that does something before each command."""
    passwd = board.files.parent / "passwd"
    usual = passwd.read_text()
    shell = board.files.parent / "login-shell"
    shell.write_text(f'#!/bin/sh\n{before}\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    passwd.write_text(usual.replace(":/bin/sh", f":{shell}", 1))
    assert passwd.read_text() != usual
    try:
        yield
    finally:
        passwd.write_text(usual)


@pytest.fixture(scope="class")
def lasting_device(shared_board: Board) -> Iterator[Device]:
    with as_client_of(shared_board):
        device = SshDevice(address_of(shared_board))
        yield device
        device.close()


class TestContract(LastingContract):
    """A board with this python."""


class TestContractWithoutPython(DeviceContract):
    @pytest.fixture
    def device(
        self, pythonless_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Device]:
        folder = tmp_path / "program"
        folder.mkdir()
        monkeypatch.setenv(ENVIRONMENT, str(write_program(folder)))
        device = SshDevice(address_of(pythonless_board))
        yield device
        device.close()


@pytest.mark.usefixtures("board_left_clean")
class TestBoard:
    def test_a_worker_of_the_boards_own_python(
        self, device: SshDevice, board: Board, model: Path
    ) -> None:
        assert set(device.runtimes()) >= {"onnxruntime", "litert"}
        with device.open(SETTING) as session:
            runtime = session.describe()
            assert runtime.delegate == "CPUExecutionProvider"
            assert int(runtime.core_mask, 16).bit_count() == 1
            (folder,) = board.files.glob("lutra-*")
            assert (folder / "lutra/devices/worker/loop.py").is_file()
            (outcome,) = session.measure([TimingRequest(0, model, 0.01, min_blocks=7)])
        assert isinstance(outcome, Sample)
        assert len(outcome.block_ms) >= 7

    def test_weights_beside_a_model_are_sent_within_it(
        self, device: SshDevice, tmp_path: Path
    ) -> None:
        table = tmp_path / "models.lut"
        profile_models(device, [external(tmp_path, 1.0)], table, watch=Watch(budget_seconds=1.0))
        with LatencyTable.open(table) as opened:
            (row,) = opened.rows("network")
        assert row.failure is None
        assert row.measurement is not None

    def test_an_alias_of_ssh_config(self, board: Board) -> None:
        device = SshDevice("board")
        assert device.info().cores >= 1
        device.close()

    def test_a_worker_that_dies_is_a_failure_and_replaced(
        self, device: SshDevice, board: Board, model: Path
    ) -> None:
        with device.open(SETTING) as session:
            assert isinstance(session, WorkerSession)
            shell = SshShell(address_of(board))
            shell.connect()
            shell.run(f"kill -9 {session.worker_pid}")
            shell.close()
            first, second = session.measure(TimingRequest(n, model, 0.005) for n in range(2))
        assert isinstance(first, RequestFailure)
        assert first.kind == "crash"
        assert isinstance(second, Sample)

    def test_a_worker_that_hangs_is_ended(
        self, device: SshDevice, board: Board, model: Path
    ) -> None:
        with device.open(SETTING) as session:
            assert isinstance(session, WorkerSession)
            pid = session.worker_pid
            shell = SshShell(address_of(board))
            shell.connect()
            shell.run(f"kill -STOP {pid}")
            requests = [TimingRequest(0, model, limit_seconds=0.5), TimingRequest(1, model)]
            first, second = session.measure(requests)
            assert isinstance(first, RequestFailure)
            assert first.kind == "timeout"
            assert isinstance(second, Sample)
            gone = f"for i in $(seq 50); do kill -0 {pid} || exit 0; sleep 0.1; done; exit 1"
            assert shell.run(gone).status == 0
            shell.close()

    def test_a_damaged_model_is_a_failure(
        self, device: SshDevice, model: Path, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken; $(touch pwned) '\".onnx"
        broken.write_bytes(model.read_bytes()[:100])
        with device.open(SETTING) as session:
            first, second = session.measure([TimingRequest(0, broken), TimingRequest(1, model)])
        assert isinstance(first, RequestFailure)
        assert first.kind == "load"
        assert isinstance(second, Sample)

    def test_another_python(self, device: SshDevice, board: Board) -> None:
        config = RuntimeConfig("onnxruntime", options={"python": "/no/such python;$(touch pwned)"})
        with pytest.raises(PermanentDeviceError, match="no/such python"):
            device.open(config)
        assert not list(board.remote_home.glob("pwned*"))

    def test_a_python_without_the_runtime_names_the_pip_line(
        self, device: SshDevice, board: Board
    ) -> None:
        config = RuntimeConfig("onnxruntime", options={"python": "/usr/bin/python3"})
        with pytest.raises(PermanentDeviceError, match="bin/pip install numpy onnxruntime"):
            device.open(config)

    def test_a_python_in_the_home_folder(
        self, device: SshDevice, board: Board, model: Path
    ) -> None:
        program = board.remote_home / "my venv" / "python"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        program.chmod(0o755)
        with device.open(
            RuntimeConfig("onnxruntime", options={"python": "~/my venv/python"})
        ) as session:
            (outcome,) = session.measure([TimingRequest(0, model, 0.005)])
        assert isinstance(outcome, Sample)

    def test_a_login_shell_that_greets(self, device: SshDevice, board: Board, model: Path) -> None:
        """As bash does with a .bashrc that prints: sshd's commands go through it too."""
        greeted = board.remote_home / "greeted"
        with login_shell(board, f'echo "Welcome!"; echo "{{}}"; touch {greeted}'):
            with device.open(SETTING) as session:
                (outcome,) = session.measure([TimingRequest(0, model, 0.005)])
            assert isinstance(outcome, Sample)
        assert greeted.exists()

    @pytest.mark.parametrize("pause", ["", "sleep 0.05"], ids=["at once", "slowly"])
    def test_a_login_shell_that_greets_for_ever(
        self, board: Board, pause: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lutra.devices.remote.folder._START_SECONDS", 1.0)
        monkeypatch.setattr("lutra.devices.remote.ssh.shell._LEAST_SEND_SECONDS", 1.0)
        shell = SshShell(address_of(board))
        with login_shell(board, f"while :; do echo Welcome; {pause or ':'}; done"):
            shell.connect()
            for use in (
                lambda: shell.run("true", 1.0),
                lambda: shell.send({f"{board.files}/x": b""}),
                lambda: RemoteFolder(shell, str(board.files)),
            ):
                with pytest.raises(LinkLost) as error:
                    use()
                assert "\n" not in str(error.value)
        shell.close()

    def test_unknown_runtime_option(self, device: SshDevice) -> None:
        with pytest.raises(UsageError, match="python=PYTHON"):
            device.open(RuntimeConfig("litert", options={"pyhton": "python3"}))


@pytest.mark.usefixtures("board_left_clean")
class TestLink:
    def test_session_killed_in_the_middle(
        self, device: SshDevice, board: Board, tmp_path: Path
    ) -> None:
        """asyncssh raises nothing then: status None. It is a lost link, never a success."""
        run(device, tmp_path / "board.lut", after_visits(5, board.kill_sessions))

    def test_link_down_and_up(
        self,
        device: SshDevice,
        board: Board,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Down for longer than it takes to be seen: three missed answers."""
        monkeypatch.setattr("lutra.devices.remote.ssh.shell._KEEPALIVE_SECONDS", 0.5)

        def cut() -> None:
            board.network.down()
            threading.Timer(3.0, board.network.up).start()

        run(device, tmp_path / "board.lut", after_visits(5, cut))

    def test_reboot(self, device: SshDevice, board: Board, tmp_path: Path) -> None:
        def reboot() -> None:
            board.stop()
            threading.Timer(1.0, board.start).start()

        run(device, tmp_path / "board.lut", after_visits(5, reboot))

    def test_gone_for_good_stops_and_resumes(
        self, device: SshDevice, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SshShell, "patience_seconds", 0.5)
        with pytest.raises(TransientDeviceError, match="the same command resumes") as error:
            run(device, tmp_path / "board.lut", after_visits(5, board.stop))
        assert "\n" not in str(error.value)
        board.start()
        run(device, tmp_path / "board.lut")

    def test_full_storage_stops_with_a_line_and_resumes(
        self, device: SshDevice, board: Board, tmp_path: Path
    ) -> None:
        inside = ["nsenter", "-t", str(board.machine.first_pid), "-m"]
        mount = [*inside, "mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(board.files)]
        subprocess.run(mount, check=True)
        with pytest.raises(StorageFull, match="the same command resumes"):
            run(device, tmp_path / "board.lut")
        unmount, deadline = [*inside, "umount", str(board.files)], time.monotonic() + 10
        while subprocess.run(unmount, check=False).returncode:  # a process there has to end first
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run(device, tmp_path / "board.lut")

    def test_killed_lutra_leaves_nothing(self, board: Board, model: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from lutra.devices.base import *;"
            "from lutra.devices.registry import open_device;"
            "session = open_device(sys.argv[1]).open(RuntimeConfig('onnxruntime'));"
            "session.describe(); print('open', flush=True);"
            "list(session.measure(TimingRequest(i, Path(sys.argv[2])) for i in range(999)))"
        )
        command = [sys.executable, "-c", code, board.spec, str(model)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            assert list(board.files.glob("lutra-*"))
            process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while list(board.files.glob("lutra-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not list(board.files.glob("lutra-*"))


class TestHostKeys:
    def test_an_unknown_key_is_refused_with_the_line_that_adds_it(self, board: Board) -> None:
        (board.home / ".ssh/known_hosts").write_text("")
        with pytest.raises(PermanentDeviceError, match="unknown") as error:
            open_device(board.spec).info()
        assert "\n" not in str(error.value)
        line = str(error.value).split("`")[1]
        subprocess.run(["sh", "-c", line], check=True)
        known = (board.home / ".ssh/known_hosts").read_text()
        assert known == board.known_host_line()
        device = SshDevice(address_of(board))
        assert device.info().cores
        device.close()

    def test_a_missing_known_hosts_is_an_unknown_key(self, board: Board) -> None:
        (board.home / ".ssh/known_hosts").unlink()
        with pytest.raises(PermanentDeviceError, match="unknown"):
            open_device(board.spec).info()

    def test_a_changed_key_is_refused(self, board: Board) -> None:
        board.change_host_key()
        with pytest.raises(PermanentDeviceError, match="ssh-keygen -R") as error:
            open_device(board.spec).info()
        assert "\n" not in str(error.value)

    def test_a_changed_key_of_a_host_with_a_name_is_no_unknown_one(self, board: Board) -> None:
        other = board.known_host_line().split()[1:]
        board.change_host_key()
        name = f"[localhost]:{board.port}"
        (board.home / ".ssh/known_hosts").write_text(" ".join([name, *other]) + "\n")
        shell = SshShell(f"root@localhost:{board.port}")
        assert "ssh-keygen -R" in shell._host_key_problem()
        shell.close()

    def test_the_line_that_adds_a_key_follows_ssh_config(self, board: Board) -> None:
        (board.home / ".ssh/known_hosts").write_text("")
        with pytest.raises(PermanentDeviceError, match="unknown") as error:
            open_device("ssh:board").info()
        subprocess.run(["sh", "-c", str(error.value).split("`")[1]], check=True)
        device = SshDevice("board")
        assert device.info().cores
        device.close()

    def test_a_key_that_changes_in_the_middle_stops_the_run(
        self, device: SshDevice, board: Board, tmp_path: Path
    ) -> None:
        with pytest.raises(PermanentDeviceError, match="ssh-keygen -R"):
            run(device, tmp_path / "board.lut", after_visits(5, board.change_host_key))
        board.trust()
        run(device, tmp_path / "board.lut")


class TestLogin:
    def test_refused_without_a_key(self, board: Board) -> None:
        (board.home / ".ssh/id_ed25519").unlink()
        board.config.write_text(board.config.read_text().replace("IdentityFile", "#IdentityFile"))
        with pytest.raises(PermanentDeviceError, match="ssh-copy-id"):
            open_device(board.spec).info()

    def test_damaged_files_in_the_clients_folder(self, board: Board) -> None:
        board.config.write_text("Host *\n  Port fish\n")
        with pytest.raises(DeviceError) as error:
            open_device(board.spec).info()
        assert "\n" not in str(error.value)

    def test_nothing_listens_there(self, board: Board) -> None:
        with pytest.raises(TransientDeviceError, match="cannot be reached"):
            open_device("ssh:root@127.0.0.1:1").info()

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "@host",
            "user@",
            "host:port",
            "host:0",
            "host:70000",
            "-oProxyCommand=x",
            "user@-x",
            "[::1",
            "[::1]x",
        ],
    )
    def test_what_is_no_address(self, address: str) -> None:
        with pytest.raises(UsageError, match="ssh:user@host"):
            open_device(f"ssh:{address}")

    @pytest.mark.parametrize(
        ("address", "parts"),
        [
            ("pi@raspberrypi.local", ("pi", "raspberrypi.local", None)),
            ("10.0.0.7:2222", (None, "10.0.0.7", 2222)),
            ("pi@[fe80::1]:22", ("pi", "fe80::1", 22)),
            ("pi@fe80::1", ("pi", "fe80::1", None)),
        ],
    )
    def test_addresses(self, address: str, parts: tuple[str | None, str, int | None]) -> None:
        assert parse_address(address) == parts

    @pytest.mark.parametrize("host", ["$(touch pwned)", "a b", "x;touch pwned", "'"])
    def test_strange_hosts_are_never_executed(self, board: Board, host: str) -> None:
        with pytest.raises(DeviceError) as error:
            open_device(f"ssh:root@{host}").info()
        assert "\n" not in str(error.value)
        assert not list(Path.cwd().glob("pwned*"))


class TestWithoutPython:
    def test_benchmark_model_is_used(
        self, pythonless_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(ENVIRONMENT, str(write_program(tmp_path)))
        device = SshDevice(address_of(pythonless_board))
        assert device.runtimes() == ("benchmark_model",)
        models = write_models(tmp_path, 3)
        measure(device, tmp_path / "board.lut", models)
        check_table(tmp_path / "board.lut", models)
        assert not list(pythonless_board.files.glob("lutra-*"))
        device.close()

    def test_without_a_program_doctor_says_both_remedies(
        self, pythonless_board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(ENVIRONMENT, raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        device = SshDevice(address_of(pythonless_board))
        assert device.runtimes() == ()
        said = " ".join(device.advice())
        assert "it has no python3" in said
        assert "benchmark_model" in said
        with pytest.raises(PermanentDeviceError, match="it has no python3"):
            device.open(RuntimeConfig("litert"))
        device.close()
