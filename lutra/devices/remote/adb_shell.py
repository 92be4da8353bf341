"""Commands and files over adb, through adbutils' connection to the adb server.

adbutils' own ``push`` waits without limit for a device that hangs and opens two connections per
file; its ``shell`` returns what arrived before the device died as if it were all. So the two
services that are needed, ``exec:`` (raw, on every Android since 5) and ``sync:``, are spoken here
with a time limit on every wait.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from adbutils import AdbClient, AdbConnection, AdbError, adb_path

from lutra.devices.remote.channel import Channel, LinkLost
from lutra.devices.remote.shell import Shell, full, is_full
from lutra.errors import PermanentDeviceError, TransientDeviceError
from lutra.text import why

_CHUNK = 1 << 16  # the most that the sync service takes at once
_EXECUTABLE_FILE = 0o100755
_ANSWER_SECONDS = 10.0
_CONNECT_SECONDS = 8.0
_START_SECONDS = 20.0
# `ValueError`: adbutils reads lengths as numbers, whatever stands there.
_ADB_ERRORS = (AdbError, OSError, EOFError, ValueError, subprocess.SubprocessError)
_STATES = {
    "unauthorized": "confirm 'Allow USB debugging?' on its screen (unlock it first); if no question"
    " shows, revoke USB debugging authorizations in its developer options and plug it in again",
    "authorizing": "confirm 'Allow USB debugging?' on its screen",
    "offline": "it does not answer: unplug it and plug it in again, or restart it",
    "no permissions": "this user may not open the USB device: on Debian and Ubuntu `sudo apt"
    " install android-sdk-platform-tools-common`, then log in again and replug",
    "recovery": "it is in recovery mode: restart it into Android",
    "sideload": "it is in sideload mode: restart it into Android",
    "bootloader": "it is in its bootloader: restart it into Android",
    "connecting": "it is still connecting: try again in a moment",
    "host": "it is in host mode: use another cable or port",
}


def advice_for(state: str) -> str:
    """What to do about a device in a state other than ``device``; empty if it is usable."""
    if state == "device":
        return ""
    for name, advice in _STATES.items():
        if state.startswith(name):
            return advice
    return f"its state is '{state}'; `adb devices` says more"


class AdbShell(Shell):
    """The shell of the Android device with a serial."""

    def __init__(self, serial: str) -> None:
        self.spec = f"adb:{serial}"
        self._serial = serial

    def connect(self) -> None:
        """Make sure that the device answers; over the network, connect to it anew."""
        try:
            _start_server()
            if self._answers():
                return
            if _is_address(self._serial):
                client = AdbClient()
                client.disconnect(self._serial)
                client.connect(self._serial, timeout=_CONNECT_SECONDS)
                if self._answers():
                    return
        except _ADB_ERRORS as error:
            raise TransientDeviceError(f"{self.spec}: {why(error)}") from error
        raise self._unusable()

    def _answers(self) -> bool:
        """Whether the device runs a command: its state may read `device` after it is gone."""
        if attached().get(self._serial) != "device":
            return False
        try:
            return self.run("true", limit_seconds=_ANSWER_SECONDS).status == 0
        except LinkLost:
            return False

    def _unusable(self) -> TransientDeviceError | PermanentDeviceError:
        state = attached().get(self._serial)
        if state is None:
            others = ", ".join(f"adb:{serial}" for serial in attached()) or "none"
            return TransientDeviceError(
                f"there is no device {self.spec}; attached: {others}. Is USB debugging on?"
            )
        if state == "device":
            return TransientDeviceError(f"{self.spec} does not answer")
        message = f"{self.spec} is {state}: {advice_for(state)}"
        if state in ("offline", "connecting", "authorizing", "recovery"):
            return TransientDeviceError(message)
        return PermanentDeviceError(message)

    def start(self, command: str) -> Channel:
        connection = self._service(f"exec:{command}")
        return AdbChannel(connection, self.spec)

    def send(self, files: Mapping[str, Path | bytes]) -> None:
        connection = self._service("sync:")
        try:
            for name, content in files.items():
                self._send_one(connection.conn, name, content)
        except _ADB_ERRORS as error:
            raise LinkLost(f"{self.spec}: the connection broke: {why(error)}") from error
        finally:
            _end(connection)

    def _send_one(self, link: socket.socket, name: str, content: Path | bytes) -> None:
        """One SEND of adb's sync protocol (SYNC.TXT of its sources)."""
        target = f"{name},{_EXECUTABLE_FILE}".encode()
        link.sendall(b"SEND" + struct.pack("<I", len(target)) + target)
        try:
            for chunk in _chunks(content):
                link.sendall(b"DATA" + struct.pack("<I", len(chunk)) + chunk)
            link.sendall(b"DONE" + struct.pack("<I", 0))
        except ConnectionError:
            # A device that refuses a file says why and hangs up at once: read that.
            pass
        answer, length = struct.unpack("<4sI", _exactly(link, 8))
        if answer == b"OKAY":
            return
        reason = _exactly(link, min(length, 4096)).decode(errors="replace")
        if is_full(reason):
            raise full(self.spec, reason)
        raise PermanentDeviceError(f"{self.spec} refused {name}: {reason}")

    def _service(self, name: str) -> AdbConnection:
        try:
            connection = AdbClient().make_connection(timeout=_ANSWER_SECONDS)
            try:
                # Otherwise each small file waits 40 ms for the server's delayed acknowledgement.
                connection.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for service in (f"host:transport:{self._serial}", name):
                    connection.send_command(service)
                    connection.check_okay()
            except BaseException:
                _end(connection)
                raise
        except _ADB_ERRORS as error:
            raise LinkLost(f"{self.spec}: {why(error)}") from error
        return connection

    def close(self) -> None:
        """Nothing is held open between commands."""


class AdbChannel(Channel):
    """A command on the device, started through ``exec:``."""

    def __init__(self, connection: AdbConnection, spec: str) -> None:
        self._connection = connection
        self._spec = spec

    def write(self, data: bytes) -> None:
        try:
            self._connection.conn.settimeout(_ANSWER_SECONDS)
            self._connection.conn.sendall(data)
        except OSError as error:
            raise LinkLost(f"{self._spec}: {why(error)}") from error

    def read(self, seconds: float) -> bytes | None:
        link = self._connection.conn
        link.settimeout(max(seconds, 0.001))  # 0 would mean: never wait, an error of its own
        try:
            return bytes(link.recv(_CHUNK))
        except TimeoutError:
            return None
        except OSError as error:
            raise LinkLost(f"{self._spec}: {why(error)}") from error

    def ending(self) -> str:
        return "no status: adb tells none"

    def kill(self) -> None:
        _end(self._connection)

    def close(self) -> None:
        _end(self._connection)


def attached() -> dict[str, str]:
    """Serial -> state of every device that the adb server knows; raises `DeviceError`."""
    try:
        _start_server()
        connection = AdbClient().make_connection(timeout=_ANSWER_SECONDS)
        try:
            connection.send_command("host:devices")
            connection.check_okay()
            text = connection.read_string_block()
        finally:
            _end(connection)
    except _ADB_ERRORS as error:
        raise TransientDeviceError(f"the adb server cannot be used: {why(error)}") from error
    pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return {serial: state.strip() for serial, state in pairs}


def _start_server() -> None:
    """Start the adb server where there is none; adbutils would let it print to our terminal."""
    client = AdbClient()
    try:
        socket.create_connection((client.host, client.port), _ANSWER_SECONDS).close()
    except OSError:
        subprocess.run(
            [adb_path(), "start-server"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_START_SECONDS,
            check=False,
        )


def _is_address(serial: str) -> bool:
    """Whether a serial is HOST:PORT of a device on the network."""
    host, _, port = serial.rpartition(":")
    return bool(host) and port.isdigit()


def _end(connection: AdbConnection) -> None:
    """Close at once: adbutils' close() sleeps to let a shutdown pass."""
    with contextlib.suppress(OSError):
        if not connection.closed:
            connection.conn.close()


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[i : i + _CHUNK] for i in range(0, len(content), _CHUNK))
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = link.recv(size - len(data))
        if not chunk:
            raise EOFError("it hung up")
        data += chunk
    return data
