"""A computer to boot, crash and boot again: processes in namespaces of their own.

Two layers. The *holder* is the hardware: a process that owns the mounts that outlast a reboot and
waits on a pipe. A *boot* is a process namespace inside it, whose first process takes everything
along when it is killed. When the test process dies, however it dies, the pipe ends, the holder
with it, and the kernel removes every process and mount of the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.peers.network import Network

READY_SECONDS = 60.0
_LISTENING = "0A"
_HOLD = 'hostname "$1"; eval "$2"; read -r pid rest </proc/self/stat; echo "$pid"; read -r end'


class Machine:
    """Hardware in ``network`` that is called ``name``; ``mounts`` is shell text that mounts."""

    def __init__(self, name: str, network: Network, mounts: str = ":") -> None:
        enter = ["nsenter", f"--net={network.path}", "--"]
        own = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--"]
        self._holder, self._holder_pid = _start(
            [*enter, *own, "sh", "-ec", _HOLD, "hold", name, mounts], stdin=subprocess.PIPE
        )
        self._boot: subprocess.Popen[str] | None = None
        self._boot_pid = 0

    @property
    def root(self) -> Path:
        """The holder's file system, its mounts included. Never resolve() it: that leaves it."""
        return Path(f"/proc/{self._holder_pid}/root")

    @property
    def running(self) -> bool:
        """Whether it is booted."""
        return self._boot is not None and self._boot.poll() is None

    @property
    def first_pid(self) -> int:
        """The host's number of the machine's process 1."""
        if not self.running:
            raise RuntimeError("the machine is not running")
        return self._boot_pid

    def boot(self, command: Sequence[str]) -> None:
        """Run ``command`` as process 1; it prints its own /proc/self/stat number first."""
        if self.running:
            raise RuntimeError("the machine is already running")
        target = ["nsenter", f"--target={self._holder_pid}"]
        enter = [*target, "--net", "--mount", "--pid", "--uts", "--"]
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
        # unshare complains (sigprocmask) when its child is killed; boots keep logs of their own.
        self._boot, self._boot_pid = _start(
            [*enter, *own, *command], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait_for_port(self, port: int) -> None:
        """Wait until something in the machine listens on ``port``, without connecting to it."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._listens(port):
            if not self.running:
                raise RuntimeError("the machine stopped while booting")
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on port {port} after {READY_SECONDS} s")
            time.sleep(0.02)

    def processes(self, recursive: bool = False) -> list[psutil.Process]:
        """The children of process 1, or all that runs besides it."""
        if not self.running:
            return []
        return psutil.Process(self.first_pid).children(recursive=recursive)

    def halt(self) -> None:
        """Kill everything in it at once, as a crash or a lost battery does."""
        if self._boot is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.running:
                os.kill(self._boot_pid, signal.SIGKILL)
        self._boot.wait()
        self._boot = None

    def close(self) -> None:
        """Take the hardware away too."""
        self.halt()
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        try:
            self._holder.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(self._holder_pid, signal.SIGKILL)
            self._holder.wait()

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(FileNotFoundError, RuntimeError):
            for table in ("tcp", "tcp6"):
                text = Path(f"/proc/{self.first_pid}/net/{table}").read_text()
                for line in text.splitlines()[1:]:
                    local, state = line.split()[1], line.split()[3]
                    if state == _LISTENING and int(local.rsplit(":", 1)[1], 16) == port:
                        return True
        return False


@contextlib.contextmanager
def work_folder(kind: str) -> Iterator[Path]:
    """A folder for a machine's files; those of processes that ended without removal go, too."""
    prefix = f"lutra-{kind}-"
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
    folder.chmod(0o755)  # sshd drops its rights before it reads some of it
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _start(
    command: Sequence[str], stdin: int, stderr: int | None = None
) -> tuple[subprocess.Popen[str], int]:
    """Start ``command``, which prints the number of its own process in the host's eyes."""
    process = subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
    if not line.strip():
        if process.stdin is not None:
            process.stdin.close()
        process.kill()
        process.wait()
        raise RuntimeError(f"could not start {' '.join(command)}")
    return process, int(line)
