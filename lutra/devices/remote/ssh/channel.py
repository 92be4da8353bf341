"""A channel to a command over SSH: asyncssh's callbacks on one side, plain calls on the other."""

from __future__ import annotations

import contextlib
import queue

import asyncssh

from lutra.devices.remote.channel import MOST_REMARKS, Channel, LinkLost, last_remark
from lutra.devices.remote.ssh.event_loop import LoopThread

_MOST_QUEUED = 8 << 20


class SshSession(asyncssh.SSHClientSession[bytes]):
    """asyncssh's side of a channel: what arrives goes into a queue that another thread reads."""

    def __init__(self) -> None:
        self.arrived: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.queued = 0
        self.stderr = b""
        self.status: int | None = None
        self.signal: str | None = None
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, channel: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = channel

    def session_started(self) -> None:
        """Nothing to do."""

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            self.stderr = (self.stderr + data)[-MOST_REMARKS:]
            return
        self.arrived.put(data)
        self.queued += len(data)
        if self.queued > _MOST_QUEUED and self.channel is not None:
            self.channel.pause_reading()

    def taken(self, size: int) -> None:
        """The other thread has taken bytes: room again."""
        self.queued -= size
        if self.queued <= _MOST_QUEUED and self.channel is not None:
            self.channel.resume_reading()

    def exit_status_received(self, status: int) -> None:
        self.status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.signal = signal

    def pause_writing(self) -> None:
        """What we write is small: requests of a line."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrived.put(None)


class SshChannel(Channel):
    """A command on the host; its stderr is kept for the message of its end."""

    def __init__(
        self,
        loop: LoopThread,
        channel: asyncssh.SSHClientChannel[bytes],
        session: SshSession,
        spec: str,
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._session = session
        self._spec = spec
        self._ended = False

    def write(self, data: bytes) -> None:
        def write() -> None:
            with contextlib.suppress(OSError):  # it ended: the next read says how
                self._channel.write(data)

        if not self._ended:
            self._loop.run_now(write)

    def read(self, seconds: float) -> bytes | None:
        if self._ended:
            return b""
        try:
            data = self._session.arrived.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return None
        if data is not None:
            self._loop.run_now(lambda: self._session.taken(len(data)))
            return data
        self._ended = True
        if self._session.status is None and self._session.signal is None:
            raise LinkLost(f"{self._spec}: the connection ended before the program did")
        return b""

    def ending(self) -> str:
        if self._session.signal is not None:
            reason = f"signal {self._session.signal}"
        else:
            reason = f"exit status {self._session.status}"
        return reason + last_remark(self._session.stderr)

    def kill(self) -> None:
        def kill() -> None:
            with contextlib.suppress(OSError):
                self._channel.kill()

        self._loop.run_now(kill)

    def close(self) -> None:
        self._loop.run_now(self._channel.close)
