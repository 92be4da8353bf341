"""The other end of the worker's pipe: starts it, asks it, outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from typing import Any

from lutra.errors import TransientDeviceError

_START_SECONDS = 120.0
_STOP_SECONDS = 5.0
_CHUNK = 1 << 16


class WorkerDied(TransientDeviceError):
    """The worker ended before it answered; the message holds the last line of its stderr."""


class WorkerHung(TransientDeviceError):
    """The worker did not answer in time and was killed."""


class WorkerClient:
    """One worker process, asked one thing at a time."""

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
        self._buffer = b""

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def send(self, request: dict[str, Any]) -> None:
        """Put a request on the worker's queue; raises `WorkerDied`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None

    def receive(self, limit_seconds: float) -> dict[str, Any]:
        """The next answer; raises `WorkerDied` or, after the limit, kills and `WorkerHung`."""
        line = self._read_line(time.monotonic() + limit_seconds)
        if line is None:
            self.kill()
            raise WorkerHung(f"no answer within {limit_seconds:g} s; the worker was killed")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.kill()
            raise WorkerDied(f"the worker answered garbage: {line[:80]!r}")
        return answer

    def ask(self, request: dict[str, Any], limit_seconds: float = _START_SECONDS) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self.send(request)
        return self.receive(limit_seconds)

    def _read_line(self, deadline: float) -> bytes | None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([descriptor], [], [], remaining)[0]:
                return None
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                raise self._died()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _died(self) -> WorkerDied:
        status = self._process.wait()
        reason = f"signal {-status}" if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        lines = [line for line in text.splitlines() if not line.startswith("INFO:")]
        last = f": {lines[-1][:300]}" if lines else ""
        return WorkerDied(f"the worker process ended ({reason}){last}")

    def kill(self) -> None:
        """End the worker at once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let the worker end by itself, then make sure of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()
        self._errors.close()
