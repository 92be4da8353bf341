"""A program's two ends, wherever it runs: a child process, a shell over adb, a channel of SSH."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

from lutra.errors import TransientDeviceError

_LONGEST_LINE = 1 << 20
MOST_REMARKS = 16 << 10
"""How many bytes of a program's stderr are kept, its last ones."""


class LinkLost(TransientDeviceError):
    """The connection to a device broke or went silent; what was in flight is unknown."""


class ProgramEnded(TransientDeviceError):
    """A program ended although more was expected of it; the message says how."""


class Channel(ABC):
    """Bytes to and from one running program."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Hand bytes to the program; raises `ProgramEnded` or `LinkLost`."""

    @abstractmethod
    def read(self, seconds: float) -> bytes | None:
        """Bytes it has written, as soon as there are any.

        None after ``seconds`` without any, empty when it has ended. Raises `LinkLost`.
        """

    @abstractmethod
    def ending(self) -> str:
        """How the program ended, for a message; call it only after `read` told so."""

    @abstractmethod
    def kill(self) -> None:
        """End the program at once, as far as the connection allows."""

    @abstractmethod
    def close(self) -> None:
        """Let the program end by itself, make sure of it, and free the channel; safe twice."""


class LineReader:
    """Whole lines of a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def line(self, seconds: float) -> bytes | None:
        """The next line without its end; None if it does not come within ``seconds``.

        Raises `ProgramEnded` when the program ends before, and `LinkLost`. A line longer than
        1 MiB is cut there: a program that floods us must not fill our memory.
        """
        deadline = time.monotonic() + seconds
        while not self._lines:
            chunk = self._channel.read(max(0.0, deadline - time.monotonic()))
            if chunk is None:
                return None
            if not chunk:
                raise ProgramEnded(f"ended with {self._channel.ending()}")
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            self._lines.extend(whole)
            if len(self._rest) > _LONGEST_LINE:
                self._lines.append(self._rest)
                self._rest = b""
        return self._lines.popleft()

    def lines(self, seconds: float) -> Iterator[bytes]:
        """The lines that come within ``seconds``, and no longer, although more are waiting.

        Raises as `line` does.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            line = self.line(left)
            if line is None:
                return
            yield line


def last_remark(stderr: bytes) -> str:
    """The last line of a program's stderr that is not mere information, as `: line`."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if not line.startswith("INFO:")]
    return f": {telling[-1][:300]}" if telling else ""
