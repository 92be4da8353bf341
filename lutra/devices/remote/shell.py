"""The command line of another machine: what the adb and the SSH adapter have in common."""

from __future__ import annotations

import re
import secrets
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lutra.devices.remote.channel import Channel, LineReader, LinkLost, ProgramEnded
from lutra.errors import PermanentDeviceError, TransientDeviceError
from lutra.text import last_words, one_line

_LONGEST_OUTPUT = 4 << 20
_LINE_OVERHEAD = 32  # an empty line takes time and room as well
_HIGHEST_STATUS = 255
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class StorageFull(PermanentDeviceError):
    """The device has no room for the models; what was measured is kept."""


def is_full(said: str) -> bool:
    """Whether a program's complaint, in the C locale, is that there is no room."""
    return re.search(r"[Nn]o space left|quota exceeded", said) is not None


def full(spec: str, said: str) -> StorageFull:
    """The error for a device without room."""
    reason = last_words(said)
    return StorageFull(
        f"{spec} is full: {reason}; free some of its storage, then the same command resumes"
    )


@dataclass(frozen=True)
class Finished:
    """What a command printed, stdout and stderr as they came, and its exit status."""

    status: int
    output: str


class Shell(ABC):
    """Runs commands on a device and sends files to it.

    ``spec`` names the device in messages. A lost link stays lost until `reconnect`.
    """

    spec: str
    connected = False
    """Whether a connection is held open between commands and not known to be broken."""
    patience_seconds = 60.0
    """How long `reconnect` tries before it gives the device up."""

    @abstractmethod
    def start(self, command: str) -> Channel:
        """Start a shell command; its stderr is not part of the channel unless it says ``2>&1``.

        Raises `LinkLost`.
        """

    @abstractmethod
    def send(self, files: Mapping[str, Path | bytes]) -> None:
        """Put files (or bytes) at absolute paths of the device, executable.

        Raises `LinkLost`, or `StorageFull` when the device has no room.
        """

    @abstractmethod
    def connect(self) -> None:
        """Make the connection, anew if there was one.

        Raises `TransientDeviceError` when the device is not there now and `PermanentDeviceError`
        for what only a person can mend.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; safe to call twice."""

    def reconnect(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect anew, patiently; raises `TransientDeviceError` when the device stays away."""
        deadline = clock() + self.patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self.connect()
                return
            except TransientDeviceError as error:
                if clock() >= deadline:
                    raise TransientDeviceError(
                        f"{self.spec} did not come back within {self.patience_seconds:g} s:"
                        f" {error}. When it is back, the same command resumes"
                    ) from error
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def run(self, command: str, limit_seconds: float = 20.0) -> Finished:
        """Run a short command to its end; raises `LinkLost` when its end is not seen in time.

        The exit status comes with the output behind a random mark, so that it is known on devices
        whose protocol has none, and output cut short is never taken for the whole.
        """
        mark = f"lutra-{secrets.token_hex(8)}"  # docs/decisions.md: Marks that carry a status
        channel = self.start(f"( {command}\n) 2>&1; s=$?; echo; echo {mark} $s")
        try:
            what = f"{self.spec}: {one_line(command):.60}"
            return _read_to_mark(channel, mark.encode(), limit_seconds, what)
        finally:
            channel.kill()
            channel.close()


def _read_to_mark(channel: Channel, mark: bytes, limit_seconds: float, what: str) -> Finished:
    lines: list[bytes] = []
    size = 0
    try:
        for line in LineReader(channel).lines(limit_seconds):
            if line.startswith(mark):
                status = status_behind(mark, line)
                return Finished(status, b"\n".join(lines).decode(errors="replace").strip("\r\n"))
            lines.append(line.rstrip(b"\r"))
            size += len(line) + _LINE_OVERHEAD
            if size > _LONGEST_OUTPUT:
                raise LinkLost(f"output without end, of a login script there perhaps ({what})")
    except ProgramEnded:
        raise LinkLost(f"the connection ended in the middle of a command ({what})") from None
    raise LinkLost(f"no answer within {limit_seconds:g} s ({what})")


def status_behind(mark: bytes, line: bytes) -> int:
    """The exit status in a line that begins with our mark; raises `LinkLost` without one."""
    found = re.fullmatch(rb" ([0-9]{1,3})\s*", line.removeprefix(mark))
    if found is None or int(found[1]) > _HIGHEST_STATUS:
        raise LinkLost(f"the device answers with no exit status ({line[:80]!r})")
    return int(found[1])


def home_path(path: str) -> str:
    """The path as one word of a POSIX shell, with the user's home for a leading ``~/``."""
    return f'"$HOME"/{quoted(path[2:])}' if path.startswith("~/") else quoted(path)


def quoted(text: str | Path) -> str:
    """The text as one word of a POSIX shell: nothing in it is ever executed."""
    return shlex.quote(str(text))
