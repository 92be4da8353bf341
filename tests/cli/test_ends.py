"""How a command ends when it is told to: in order, with nothing left in the temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from lutra.tables import LatencyTable

PROFILE = """
import signal, sys
from lutra.cli import main, output
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever these tests were started with
signal.signal(signal.SIGHUP, signal.SIG_DFL)
class Stopped:
    def __call__(self, done, expected, eta_seconds):
        if done == 5:
            print("measuring", flush=True)
            sys.stdin.read()
output._plain = lambda label: Stopped()
main.main(["profile", "fake", "-o", sys.argv[1], "--networks", "0"])
"""


def profiling(folder: Path) -> subprocess.Popen[str]:
    """A command in the middle of a run; its models are in ``folder``/tmp."""
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", PROFILE, str(folder / "fake.lut")],
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    assert list((folder / "tmp").glob("*/*.onnx"))
    return process


def visits(table: Path) -> int:
    with LatencyTable.open(table) as opened:
        return sum(map(len, (opened.all_visits("op") | opened.all_visits("network")).values()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    with profiling(tmp_path) as process:
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130
    last = errors.splitlines()[-1]
    assert last == "lutra: interrupted; what was recorded is kept, rerun to resume"
    assert "Traceback" not in errors
    assert list((tmp_path / "tmp").iterdir()) == []
    assert {item.name for item in tmp_path.iterdir()} == {"tmp", "fake.lut"}
    assert visits(tmp_path / "fake.lut") == 5


def test_what_a_kill_leaves_is_cleared_by_the_next_run(tmp_path: Path) -> None:
    with profiling(tmp_path) as process:
        process.kill()
    (left,) = (tmp_path / "tmp").iterdir()
    with profiling(tmp_path) as process:
        assert not left.exists()
        process.communicate("")
    assert list((tmp_path / "tmp").iterdir()) == []
