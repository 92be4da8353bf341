"""A channel to a child process on this machine."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time

from lutra.devices.remote.channel import MOST_REMARKS, Channel, ProgramEnded, last_remark

_STOP_SECONDS = 5.0
_CHUNK = 1 << 16  # all that a pipe holds


class LocalProcess(Channel):
    """A child process spoken to over pipes; the end of its stderr is kept for messages.

    Stderr is taken in while an answer is waited for: a child that writes more than a pipe holds
    waits for us in turn, and neither memory nor disk fills up.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._remarks = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        assert self._process.stderr is not None
        output, errors = self._process.stdout.fileno(), self._process.stderr.fileno()
        watched = [output, errors]
        deadline = time.monotonic() + seconds
        while True:
            ready = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
            if errors in ready and not self._take_remarks():
                watched.remove(errors)
            if output in ready:
                return os.read(output, _CHUNK)
            if not ready or time.monotonic() >= deadline:
                return None

    def _take_remarks(self) -> bool:
        """Take in what is waiting on stderr; whether there may be more."""
        assert self._process.stderr is not None
        chunk = os.read(self._process.stderr.fileno(), _CHUNK)
        self._remarks = (self._remarks + chunk)[-MOST_REMARKS:]
        return bool(chunk)

    def ending(self) -> str:
        assert self._process.stderr is not None
        self._end()
        if select.select([self._process.stderr], [], [], 0.0)[0]:
            self._take_remarks()
        return _ending(self._process.returncode) + last_remark(self._remarks)

    def _end(self) -> None:
        """Wait for its end, which it is near or was asked for, and make sure of it."""
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver that hangs
            self._process.wait(_STOP_SECONDS)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if self._process.stderr.closed:
            return
        try:
            self._process.stdin.close()
        except OSError:  # it ended with input unread
            self.kill()
        self._process.stderr.close()  # it need not wait for us to read its last words
        self._end()
        self._process.stdout.close()


def _ending(status: int | None) -> str:
    """An exit status in words; None is that of a process that not even SIGKILL ends."""
    if status is None:
        return "no status: it cannot be killed"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
