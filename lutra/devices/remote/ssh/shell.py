"""Commands and files over SSH, by asyncssh; its event loop runs in a thread of its own."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh

from lutra.devices.remote.channel import Channel, LinkLost
from lutra.devices.remote.shell import Shell, full, is_full, quoted
from lutra.devices.remote.ssh.channel import SshChannel, SshSession
from lutra.devices.remote.ssh.event_loop import LoopThread
from lutra.errors import PermanentDeviceError, TransientDeviceError, UsageError
from lutra.text import first_words, why

_SSH_PORT = 22
_CONNECT_SECONDS = 10.0
_LOGIN_SECONDS = 20.0
_KEEPALIVE_SECONDS = 2.0
_KEEPALIVES_MISSED = 3
_ANSWER_SECONDS = 20.0
_LEAST_SEND_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 250e3
_LINK_ERRORS = (asyncssh.Error, OSError, TimeoutError)


class SshShell(Shell):
    """The shell of ``user@host[:port]``; what is left out comes from ~/.ssh/config.

    Raises `UsageError` for an address of another form.
    """

    def __init__(self, address: str) -> None:
        self.spec = f"ssh:{address}"
        self._user, self._host, self._port = parse_address(address)
        self._loop = LoopThread()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._let_in = False

    def connect(self) -> None:
        self._drop_connection()
        try:
            self._connection = self._loop.call(self._connect(), _CONNECT_SECONDS + _LOGIN_SECONDS)
            self._let_in = True
        except asyncssh.HostKeyNotVerifiable:
            raise PermanentDeviceError(self._host_key_problem()) from None
        except asyncssh.PermissionDenied:
            if self._let_in:  # a board that shuts down or boots refuses whom it knows
                raise TransientDeviceError(f"{self.spec} refuses the login now") from None
            raise PermanentDeviceError(
                f"{self.spec} refused the login; try `ssh-copy-id {self._ssh_words()}`, or add the"
                " key to your agent with ssh-add"
            ) from None
        except FileNotFoundError as error:  # a known_hosts that the configuration names
            if "known_hosts" in str(error.filename):
                raise PermanentDeviceError(self._host_key_problem()) from None
            raise PermanentDeviceError(f"{self.spec}: ~/.ssh: {why(error)}") from error
        except _LINK_ERRORS as error:
            raise TransientDeviceError(
                f"{self.spec}: it cannot be reached: {why(error)}"
            ) from error
        except ValueError as error:  # a damaged known_hosts, config or key file
            raise PermanentDeviceError(f"{self.spec}: ~/.ssh: {why(error)}") from error

    async def _connect(self) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            self._host,
            self._port or (),
            username=self._user or (),
            connect_timeout=_CONNECT_SECONDS,
            login_timeout=_LOGIN_SECONDS,
            keepalive_interval=_KEEPALIVE_SECONDS,
            keepalive_count_max=_KEEPALIVES_MISSED,
        )

    def _host_key_problem(self) -> str:
        """The line that says whether the key is new or changed, and what to type."""
        name, port = self._known_as()
        entry = f"[{name}]:{port}" if port != _SSH_PORT else name
        if _has_key(name, port):
            return (
                f"the host key of {self.spec} is not the one in ~/.ssh/known_hosts: someone may sit"
                " between, or the board was set up anew; if you know it was, run"
                f" `ssh-keygen -R {quoted(entry)}` and then connect with ssh once"
            )
        return (
            f"the host key of {self.spec} is unknown; if it is the right one, run"
            f" `{self._line_that_adds_it(entry, port)}` (or connect with ssh once and compare)"
        )

    def _known_as(self) -> tuple[str, int]:
        """The host's name and port as known_hosts has them, by ~/.ssh/config."""
        try:
            options = self._loop.call(
                asyncssh.SSHClientConnectionOptions.construct(
                    config=(), host=self._host, port=self._port or ()
                ),
                _CONNECT_SECONDS,
            )
        except (OSError, ValueError, asyncssh.Error):
            return self._host, self._port or _SSH_PORT
        return options.host_key_alias or options.host, options.port

    def _line_that_adds_it(self, entry: str, port: int) -> str:
        """The shell command that adds the key which the host shows."""
        try:
            key = self._loop.call(
                asyncssh.get_server_host_key(self._host, self._port or ()), _CONNECT_SECONDS
            )
            assert key is not None
            text = key.export_public_key().decode().split()
        except Exception:  # any reason not to see the key leaves the generic remedy
            return f"ssh-keyscan -p {port} {quoted(self._host)} >> ~/.ssh/known_hosts"
        return f"echo {quoted(' '.join([entry, *text[:2]]))} >> ~/.ssh/known_hosts"

    def _ssh_words(self) -> str:
        port = "" if self._port is None else f"-p {self._port} "
        return port + quoted(self._host if self._user is None else f"{self._user}@{self._host}")

    @property
    def connected(self) -> bool:  # type: ignore[override]
        return self._connection is not None and not self._connection.is_closed()

    def _open(self) -> asyncssh.SSHClientConnection:
        if self._connection is None:
            raise LinkLost(f"{self.spec} is not connected")
        return self._connection

    def start(self, command: str) -> Channel:

        session = SshSession()

        async def start() -> asyncssh.SSHClientChannel[bytes]:
            channel, _ = await self._open().create_session(
                lambda: session, _for_any_login_shell(command), encoding=None
            )
            return channel

        try:
            channel = self._loop.call(start(), _ANSWER_SECONDS)
        except _LINK_ERRORS as error:
            raise LinkLost(f"{self.spec}: {why(error)}") from error
        return SshChannel(self._loop, channel, session, self.spec)

    def send(self, files: Mapping[str, Path | bytes]) -> None:
        """All files as one tar stream: 1,000 small ones take 0.4 s instead of 1.6."""
        if not files:
            return
        folder = os.path.commonpath([os.path.dirname(name) for name in files])  # noqa: PTH120
        with tempfile.TemporaryFile(prefix="lutra-") as archive:
            with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for name, content in files.items():
                    _add(tar, name[len(folder) + 1 :], content)
            size = archive.tell()
            archive.seek(0)
            limit_seconds = _LEAST_SEND_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
            self._unpack(archive, folder, limit_seconds)

    def _unpack(self, archive: Any, folder: str, limit_seconds: float) -> None:
        command = _for_any_login_shell(
            f"export LC_ALL=C; mkdir -p {quoted(folder)} && tar -xmf - -C {quoted(folder)}"
        )

        async def unpack() -> tuple[int | None, bytes]:
            # Not run(): it keeps all that is said, of which a login shell may say any amount.
            async with self._open().create_process(
                command, stdin=archive, stdout=asyncssh.DEVNULL, encoding=None
            ) as process:
                await process.wait_closed()
                return process.exit_status, process.collect_output()[1]

        try:
            status, errors = self._loop.call(unpack(), limit_seconds)
        except _LINK_ERRORS as error:
            raise LinkLost(f"{self.spec}: {why(error)}") from error
        said = errors.decode(errors="replace")
        if status is None or status < 0:
            raise LinkLost(f"{self.spec}: the connection ended while files were sent")
        if status != 0 and is_full(said):
            raise full(self.spec, said)
        if status != 0:
            reason = first_words(said) or f"tar ended with {status}"
            raise PermanentDeviceError(f"{self.spec} refused files: {reason}")

    def _drop_connection(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._loop.run_now(connection.abort)

    def close(self) -> None:
        self._drop_connection()
        self._loop.close()


def parse_address(address: str) -> tuple[str | None, str, int | None]:
    """``user@host:port`` in its parts; an IPv6 host stands in brackets. Raises `UsageError`."""
    user, at, rest = address.rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
        if not bracket or (tail and not tail.startswith(":")):
            host = ""
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    valid_port = not port or (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
    valid_host = host and not host.startswith("-") and "/" not in host
    if not valid_host or not valid_port or (at and not user):
        raise UsageError(
            f"'ssh:{address}' is no address; write ssh:user@host or ssh:user@host:port"
        )
    return user or None, host, int(port) if port else None


def _has_key(name: str, port: int) -> bool:
    """Whether ~/.ssh/known_hosts has a key for the host."""
    with contextlib.suppress(OSError, ValueError):
        hosts = asyncssh.read_known_hosts(str(Path("~/.ssh/known_hosts").expanduser()))
        return any(hosts.match(name, "", port)[:2])
    return False


def _for_any_login_shell(command: str) -> str:
    """sshd hands commands to the user's login shell, which may be fish."""
    return f"exec sh -c {quoted(command)}"


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o755
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        return
    member.size = content.stat().st_size
    with content.open("rb") as file:
        tar.addfile(member, file)
