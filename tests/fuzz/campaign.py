"""A long run: each target in turn, by each driver, in a process that may die of what it is fed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lutra.text import printable
from tests.fuzz.drivers import Progress, save
from tests.fuzz.oracle import Finding

DRIVERS = ("grammar", "coverage")
_LONGEST_TURN = 120.0  # seconds
_SILENT_SECONDS = 60.0  # without another input: it hangs where no signal reaches it
_START_SECONDS = 300.0
_POLL_SECONDS = 0.5


class Campaign:
    """Counts and corpora in a folder, which the next campaign goes on with."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self._say = say
        self._state = self._folder / "counts.json"
        self.counts: dict[str, dict[str, Any]] = {}
        if self._state.exists():
            self.counts = json.loads(self._state.read_text())

    def run(self, names: Sequence[str], minutes: float, drivers: Sequence[str]) -> None:
        """Take turns until the time is up; each target and driver gets as much of it."""
        until = time.monotonic() + 60.0 * minutes
        turn = min(_LONGEST_TURN, 60.0 * minutes / (len(names) * len(drivers)))
        while time.monotonic() < until:
            for name in names:
                for driver in drivers:
                    left = until - time.monotonic()
                    if left > 0:
                        self._turn(name, driver, min(turn, max(left, 1.0)))

    def _turn(self, name: str, driver: str, seconds: float) -> None:
        counts = self.counts.setdefault(name, {"turns": 0, **dict.fromkeys(DRIVERS, 0)})
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        progress = Progress(folder / "progress")
        progress.begin(0, b"")
        with (folder / f"{driver}.log").open("wb") as log:
            child = subprocess.Popen(
                [
                    sys.executable, "-m", "tests.fuzz", "--driver", driver, "--target", name,
                    "--seconds", str(seconds), "--folder", str(folder),
                    "--seed", str(1000 * counts["turns"]),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                ending = self._watched(child, progress)
            except BaseException:
                child.kill()
                child.wait()
                raise
        count, data = progress.read()
        if ending is not None:
            save(folder / "failing", Finding(name, ending, "?", data, ""))
        counts["turns"] += 1
        counts[driver] += count
        self._state.write_text(json.dumps(self.counts, indent=2) + "\n")
        for left in folder.glob("lutra-fuzz-*"):
            shutil.rmtree(left)
        self._say(f"{name}, {driver}: {count} inputs, {len(self.failing(name))} kinds of failure")

    def _watched(self, child: subprocess.Popen[bytes], progress: Progress) -> str | None:
        """Wait for the end; what was wrong with it, if anything."""
        last, since = progress.read()[0], time.monotonic()
        while True:
            try:
                status = child.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                count = progress.read()[0]
                if count != last:
                    last, since = count, time.monotonic()
                elif time.monotonic() - since > (_SILENT_SECONDS if count else _START_SECONDS):
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
                    return "it hangs: no signal reaches it"
                continue
            if status < 0:
                return f"it crashes: {signal.Signals(-status).name}"
            return None if status == 0 else f"it ends: status {status}"

    def failing(self, name: str) -> list[Path]:
        """What each kind of failure of a target did, one text each."""
        return sorted((self._folder / name / "failing").glob("*.txt"))

    def table(self) -> str:
        """The counts, as docs/security.md shows them."""
        lines = ["| target | by grammar | by coverage | failing |", "|---|---|---|---|"]
        totals = dict.fromkeys(DRIVERS, 0)
        failures = 0
        for name, counts in self.counts.items():
            failing = len(self.failing(name))
            failures += failing
            for driver in DRIVERS:
                totals[driver] += counts[driver]
            lines.append(f"| {name} | {counts['grammar']:,} | {counts['coverage']:,} | {failing} |")
        lines.append(f"| together | {totals['grammar']:,} | {totals['coverage']:,} | {failures} |")
        return "\n".join(lines)

    def failures(self) -> list[str]:
        """One line for each kind of failure: what, where, and the file that holds its input."""
        found = []
        for name in self.counts:
            for path in self.failing(name):
                first = path.read_text(encoding="utf-8").split("\n", 2)[:2]
                found.append(printable(f"{': '.join(first)} ({path.with_suffix('.bin')})"))
        return found


def available_drivers() -> tuple[str, ...]:
    """Both, or without atheris only the grammar's."""
    return DRIVERS if importlib.util.find_spec("atheris") else DRIVERS[:1]
