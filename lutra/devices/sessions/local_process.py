"""A channel to a child process on this machine."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile

from lutra.devices.remote.channel import Channel, ProgramEnded, last_remark

_STOP_SECONDS = 5.0
_CHUNK = 1 << 16


class LocalProcess(Channel):
    """A child process spoken to over pipes; its stderr is kept for the message of its end."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # Ctrl-C stops the run in order, not the worker under it
        )

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            raise ProgramEnded(f"ended with {self.ending()}") from None

    def read(self, seconds: float) -> bytes | None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], seconds)[0]:
            return None
        return os.read(descriptor, _CHUNK)

    def ending(self) -> str:
        status = self._process.wait()
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        return reason + last_remark(self._errors.read())

    def kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver that hangs
            self._process.wait(_STOP_SECONDS)

    def close(self) -> None:
        if self._errors.closed:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:  # it ended with input unread
            self.kill()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()
        self._errors.close()
