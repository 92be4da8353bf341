"""A real terminal: a pseudo-terminal of some width, with lutra in it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from dataclasses import dataclass

_COMMANDS = r"""
import json, sys
from lutra.cli.main import main
highest = 0
for number, words in enumerate(json.loads(sys.argv[1])):
    if number:
        print("\f", end="")
    try:
        main(words)
    except SystemExit as end:
        highest = max(highest, end.code)
sys.exit(highest)
"""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Seen:
    """What a terminal was sent, and the highest status that a command ended with."""

    raw: str
    status: int

    @property
    def pages(self) -> list[list[str]]:
        """The lines of each command, without what colours and bars add."""
        plain = _ESCAPE.sub("", self.raw).replace("\r\n", "\n")
        return [page.splitlines() for page in plain.split("\f")]


def in_terminal(*commands: Sequence[object], columns: int, stderr: bool = True) -> Seen:
    """Run commands of lutra in a terminal; without ``stderr`` only their stdout is seen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMANDS, json.dumps([[*map(str, words)] for words in commands])],
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
