"""A Linux board as far as ssh can tell: the real sshd, on the host's system or on an arm64 one."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil

from tests.peers.device_files import write_board_files
from tests.peers.machine import Machine, work_folder
from tests.peers.network import Network
from tests.peers.roots import HERE, board_root, emulation

PORT = 2222  # not ssh's own: who forgets the port does not get through
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WITHOUT_PYTHON = """
    awk basename cat chmod cmp cp cut date df dirname du env false find grep gzip head id kill ln
    ls mkdir mktemp mv nproc printf ps pwd readlink realpath rm rmdir sed sh sha256sum sleep sort
    stat sync tail tar taskset tee test timeout touch tr true uname uniq wc which xargs
"""


class Board:
    """A board, booted on entry; its address and host key stay the same over restarts.

    Its root's home and TMPDIR are folders of its own, ``remote_home`` and ``files``, with the
    same path inside as outside. ``home`` is for the client: keys, config and known hosts.
    """

    user = "root"
    port = PORT

    def __init__(
        self, kind: Literal["host", "arm64"] = "host", without_python: bool = False
    ) -> None:
        if kind == "arm64" and without_python:
            raise ValueError("only a board on the host's system goes without python")
        self.kind = kind
        self.without_python = without_python
        self.network = Network()
        self._cleanup = contextlib.ExitStack()
        self._root = Path("/")
        self._work = Path()
        self._machine: Machine | None = None

    def __enter__(self) -> Self:
        with self._cleanup:
            if self.kind == "arm64":
                self._cleanup.enter_context(emulation())
                self._root = board_root("arm64")
            self._work = self._cleanup.enter_context(work_folder("board"))
            self._cleanup.enter_context(self.network)
            self._write_work()
            self._machine = Machine("board", self.network)
            self._cleanup.callback(self._machine.close)
            self.start()
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    @property
    def address(self) -> str:
        """Its address; the port is `port`."""
        return self.network.address

    @property
    def spec(self) -> str:
        """How lutra names it."""
        return f"ssh:{self.user}@{self.address}:{self.port}"

    @property
    def home(self) -> Path:
        """HOME for a client: its .ssh holds id_ed25519, known_hosts and config.

        The config knows the board as ``board``, too. (OpenSSH ignores HOME: ``ssh -F CONFIG``.)
        """
        return self._work / "client"

    @property
    def config(self) -> Path:
        """The client's ssh configuration, for ``ssh -F``."""
        return self.home / ".ssh/config"

    @property
    def files(self) -> Path:
        """TMPDIR of the board's commands."""
        return self._work / "files"

    @property
    def remote_home(self) -> Path:
        """HOME of the board's commands."""
        return self._work / "remote"

    @property
    def programs(self) -> Path:
        """The folder that is first in PATH of the board's commands, or all of it."""
        return self._work / "bin"

    @property
    def sys(self) -> Path:
        """The /sys of an arm64 board: plain files. One on the host's system has the host's."""
        return self._work / "sys"

    @property
    def log(self) -> str:
        """What sshd logged, at its VERBOSE level."""
        return self._read("sshd.log")

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return self.machine.running

    @property
    def machine(self) -> Machine:
        """What it runs on."""
        if self._machine is None:
            raise RuntimeError("the board is not open")
        return self._machine

    def start(self) -> None:
        """Switch it on and wait for sshd; does nothing when it is on."""
        if not self.machine.running:
            boot = ["sh", str(HERE / "boot_board.sh"), str(self._root), str(self._work)]
            try:
                self.machine.boot(boot)
                self.machine.wait_for_port(PORT)
            except RuntimeError as error:
                raise RuntimeError(f"{error}: {self._read('boot.log')}{self.log}") from error

    def stop(self) -> None:
        """Kill everything on it at once, as a lost power supply does."""
        self.machine.halt()

    def kill_sessions(self) -> None:
        """Kill the sshd processes of all connections; the listener and programs live on.

        Newer ones have several for one connection, and any that is left keeps it open.
        LookupError when there is none.
        """
        killed = 0
        for process in self.machine.processes(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    process.kill()
                    killed += 1
        if not killed:
            raise LookupError("nobody is connected")

    def change_host_key(self) -> None:
        """Restart with another host key, as a reinstalled board or an impostor has."""
        running = self.machine.running
        self.stop()
        self._make_key(self._work / "host_key")
        if running:
            self.start()

    def known_host_line(self) -> str:
        """The line of known_hosts for its present host key."""
        key = (self._work / "host_key.pub").read_text().split()
        return f"[{self.address}]:{PORT} {key[0]} {key[1]}\n"

    def trust(self) -> None:
        """Write the present host key, alone, to the client's known hosts."""
        (self.home / ".ssh/known_hosts").write_text(self.known_host_line())

    def set_vcgencmd(self, command: str, answer: str) -> None:
        """What ``vcgencmd COMMAND`` prints on an arm64 board."""
        (self._work / "vcgencmd" / command).write_text(f"{answer}\n")

    def heal(self) -> None:
        """Make it as new: running, linked, with empty folders, known to the client again."""
        self.network.up()
        self.start()
        for process in self.machine.processes(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._write_values()

    def _read(self, name: str) -> str:
        file = self._work / name
        return file.read_text(errors="replace") if file.exists() else ""

    def _write_work(self) -> None:
        (self._work / "client").mkdir()
        self._make_key(self._work / "host_key")
        self._make_key(self._work / "client_key")
        shutil.copy(self._work / "client_key.pub", self._work / "authorized_keys")
        (self._work / "sshd_config").write_text(self._sshd_config())
        self._write_accounts()
        self._write_values()

    def _write_values(self) -> None:
        """Write all that a test can have changed."""
        folders = (self.files, self.remote_home, self.home, self.programs, self._work / "vcgencmd")
        for folder in folders:
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self._write_client()
        self._write_programs()
        if self.kind == "arm64":
            for part in ("bus", "class", "devices", "firmware"):
                shutil.rmtree(self.sys / part, ignore_errors=True)
            write_board_files(self._work)
            self.set_vcgencmd("get_throttled", "throttled=0x0")
            self.set_vcgencmd("measure_temp", "temp=48.3'C")

    def _write_client(self) -> None:
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700)
        shutil.copy(self._work / "client_key", ssh / "id_ed25519")
        shutil.copy(self._work / "client_key.pub", ssh / "id_ed25519.pub")
        self.trust()
        known = ssh / "known_hosts"
        self.config.write_text(
            f"Host board\n  HostName {self.address}\n  Port {PORT}\n  User {self.user}\n\n"
            f"Host *\n  IdentityFile {ssh / 'id_ed25519'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known}\n"
        )
        for file in (ssh / "id_ed25519", known, self.config):
            file.chmod(0o600)

    def _write_accounts(self) -> None:
        """Give root this board's home; a locked account would not get in without PAM."""
        source = self._root / "etc/passwd"
        others = [line for line in source.read_text().splitlines() if not line.startswith("root:")]
        if not any(line.startswith("sshd:") for line in others):
            others.append("sshd:x:100:65534::/run/sshd:/usr/sbin/nologin")
        lines = [f"root:x:0:0:root:{self.remote_home}:/bin/sh", *others]
        (self._work / "passwd").write_text("\n".join(lines) + "\n")
        (self._work / "shadow").write_text("root:*:19000:0:99999:7:::\n")

    def _write_programs(self) -> None:
        folder = self.programs
        if self.kind == "arm64":
            for shim in (HERE / "shims/board").iterdir():
                shutil.copy(shim, folder / shim.name)
        elif self.without_python:
            for name in _WITHOUT_PYTHON.split():
                program = shutil.which(name, path=_SYSTEM_PATH)
                if program is not None:
                    (folder / name).symlink_to(program)
        else:
            # A symbolic link would lose a virtual environment.
            (folder / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            (folder / "python3").chmod(0o755)

    def _sshd_config(self) -> str:
        path = str(self.programs)
        if not self.without_python:
            path += f":{_SYSTEM_PATH}"
        variables = f"TMPDIR={self.files} PATH={path}"
        if self.kind == "arm64":
            variables += " QEMU_CPU=cortex-a72"
        return (
            f"Port {PORT}\n"
            f"HostKey {self._work / 'host_key'}\n"
            f"AuthorizedKeysFile {self._work / 'authorized_keys'}\n"
            "AuthenticationMethods publickey\n"
            "PermitRootLogin prohibit-password\n"
            "StrictModes no\n"
            "UsePAM no\n"
            "UseDNS no\n"
            "PrintMotd no\n"
            "PrintLastLog no\n"
            "LogLevel VERBOSE\n"
            f"PidFile {self._work / 'sshd.pid'}\n"
            f"SetEnv {variables}\n"
            f"Subsystem sftp {_sftp_server(self._root)}\n"
        )

    def _make_key(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(file)]
        subprocess.run(command, check=True)


def _sftp_server(root: Path) -> str:
    for folder in ("usr/lib/openssh", "usr/libexec/openssh", "usr/lib/ssh", "usr/libexec"):
        if (root / folder / "sftp-server").exists():
            return f"/{folder}/sftp-server"
    return "internal-sftp"
