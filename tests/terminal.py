"""A real terminal: a pseudo-terminal of some width, with lutra in it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Seen:
    """What a terminal was sent, and the status that the program ended with."""

    raw: str
    status: int

    @property
    def lines(self) -> list[str]:
        """Without what colours and bars add."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n").splitlines()


def in_terminal(*arguments: object, columns: int, stderr: bool = True) -> Seen:
    """Run lutra in a terminal; without ``stderr`` only what it prints on stdout is seen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lutra", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs if stderr else subprocess.DEVNULL,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the program has ended
            read = b""
        if not read:
            break
        sent += read
    os.close(ours)
    return Seen(sent.decode(), process.wait())
