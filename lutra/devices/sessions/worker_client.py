"""The other end of the worker's channel: asks it, outlives it."""

from __future__ import annotations

import json
from typing import Any

from lutra.devices.remote.channel import Channel, LineReader, ProgramEnded
from lutra.errors import TransientDeviceError
from lutra.files import parse_json

_START_SECONDS = 120.0


class WorkerDied(TransientDeviceError):
    """The worker ended before it answered; the message holds the last line of its stderr."""


class WorkerHung(TransientDeviceError):
    """The worker did not answer in time and was killed."""


class WorkerClient:
    """One worker process, asked one thing at a time."""

    def __init__(self, channel: Channel, lines: LineReader | None = None) -> None:
        """``lines`` is the channel's reader, where someone read from it before."""
        self._channel = channel
        self._lines = lines or LineReader(channel)

    def ask(self, request: dict[str, Any], limit_seconds: float = _START_SECONDS) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises `WorkerDied`, `WorkerHung` after the limit (the worker is then killed), `LinkLost`.
        """
        try:
            self._channel.write(json.dumps(request).encode() + b"\n")
            line = self._lines.line(limit_seconds)
        except ProgramEnded as ended:
            raise WorkerDied(f"the worker process {ended}") from None
        if line is None:
            self.kill()
            raise WorkerHung(f"no answer within {limit_seconds:g} s; the worker was killed")
        try:
            answer = parse_json(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.kill()
            raise WorkerDied(f"the worker answered garbage: {line[:80]!r}")
        return answer

    def kill(self) -> None:
        """End the worker at once."""
        self._channel.kill()

    def close(self) -> None:
        """Let the worker end by itself, then make sure of it."""
        self._channel.close()
