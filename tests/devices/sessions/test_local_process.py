"""A child process over pipes: what it says on stderr fills up nothing and holds nothing up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lutra.devices.remote.channel import MOST_REMARKS, LineReader, ProgramEnded
from lutra.devices.sessions.local_process import LocalProcess


@contextmanager
def child(code: str) -> Iterator[LocalProcess]:
    """A Python that runs this."""
    process = LocalProcess([sys.executable, "-c", f"import os, sys; {code}"], dict(os.environ))
    try:
        yield process
    finally:
        process.close()


def test_any_amount_on_stderr_is_taken_and_its_end_is_kept() -> None:
    code = (
        "noise = b'x' * 65535 + b'\\n'; [os.write(2, noise) for _ in range(800)];"
        "os.write(2, b'out of memory\\n'); print(flush=True);"
        "print(os.fstat(2).st_size, flush=True); sys.stdin.read(); sys.exit(3)"
    )
    with child(code) as process:
        lines = LineReader(process)
        assert lines.line(30.0) == b""
        assert lines.line(30.0) == b"0"  # no file that grows
        assert len(process._remarks) <= MOST_REMARKS
        assert process._process.stdin is not None
        process._process.stdin.close()
        with pytest.raises(ProgramEnded, match=r"^ended with exit status 3: out of memory$"):
            lines.line(30.0)


def test_one_that_never_stops_saying_does_not_answer_in_time() -> None:
    with child("[os.write(2, b'x' * 65536) for _ in iter(int, 1)]") as process:
        assert process.read(0.3) is None
        process.kill()
        with pytest.raises(ProgramEnded, match="signal 9"):
            LineReader(process).line(30.0)


def test_one_that_says_much_at_its_end_ends_by_itself() -> None:
    code = (
        "sys.stdin.read()\ntry:\n [os.write(2, b'x' * 65536) for _ in range(99)]\n"
        "except OSError: os._exit(4)"
    )
    with child(f"print(flush=True)\n{code}") as process:
        assert LineReader(process).line(30.0) == b""
    assert process._process.returncode == 4


def test_one_that_closes_its_output_and_goes_on_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lutra.devices.sessions.local_process._STOP_SECONDS", 0.3)
    with child("os.close(1); sys.stdin.read()") as process:
        with pytest.raises(ProgramEnded, match=f"signal {signal.SIGKILL:d}"):
            LineReader(process).line(30.0)
