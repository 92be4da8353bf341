"""What the operating system did to this process while it timed: was the core its own?

A model that shares its core takes twice as long, and blocks of a few milliseconds do not tell: a
scheduler's slice is as long. The kernel counts what it did (proc(5)); where it does not tell, as on
macOS, there is nothing to say.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

_SCHEDSTAT, _TASKS = Path("/proc/self/schedstat"), Path("/proc/self/task")
_STAT, _MEMORY = Path("/proc/stat"), Path("/proc/meminfo")
_GROUP_MEMORY, _GROUP_FILES = Path("/sys/fs/cgroup"), ("max", "current")
_ROOM = 0.3  # of the memory, to be left for others and for the next model
_IDLE, _IOWAIT, _STEAL = 3, 4, 7  # columns of a line of /proc/stat, in clock ticks


class SystemCounts:
    """Counts at one moment; their growth is what happened since."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._own = time.process_time()
        self._waited = _run_queue_wait()
        self._faults, self._preemptions = _usage()
        self._machine = _machine_seconds()

    def since(self, threads: int) -> dict[str, Any] | None:
        """What happened since these were taken to a process of so many computing threads.

        Shares of the time: ``waited_share``, in which it was ready to run and another process had
        its core; ``stolen_share``, in which the host ran other virtual machines. Numbers:
        ``preemptions`` (involuntary context switches), ``page_faults``, and ``others_cores``, how
        many cores other processes kept busy on average. None where the kernel does not tell.
        """
        now = SystemCounts()
        if self._waited is None or now._waited is None:
            return None
        seconds = max(now._wall - self._wall, 1e-9)
        busy, stolen = (new - old for new, old in zip(now._machine, self._machine))  # noqa: B905
        return {
            "waited_share": (now._waited - self._waited) / seconds / threads,
            "stolen_share": stolen / seconds,
            "preemptions": now._preemptions - self._preemptions,
            "page_faults": now._faults - self._faults,
            "others_cores": (busy - (now._own - self._own)) / seconds,
        }


def _run_queue_wait() -> float | None:
    """Seconds that this process's threads were ready and did not run."""
    if not _SCHEDSTAT.exists():
        return None
    waited = 0
    try:
        for task in _TASKS.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread ended
                waited += int((task / "schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return waited / 1e9


def _usage() -> tuple[int, int]:
    """Page faults, and switches to another process before the slice was used up."""
    import resource  # not on Windows

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt, usage.ru_nivcsw


def _machine_seconds() -> tuple[float, float]:
    """Seconds for which all cores together were busy, and for which the host had one of ours.

    Ours are those that this process is pinned to: what is stolen from others does not slow it.
    """
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines() if line[:3] == "cpu"]
        ticks = {name: [int(field) for field in fields[:8]] for name, *fields in lines}
        rate = os.sysconf("SC_CLK_TCK")
        machine, ours = ticks["cpu"], os.sched_getaffinity(0)
        busy = sum(machine) - machine[_IDLE] - machine[_IOWAIT] - machine[_STEAL]
        stolen = sum(ticks[f"cpu{core}"][_STEAL] for core in ours) / len(ours)
        return busy / rate, stolen / rate
    except (OSError, ValueError, IndexError, KeyError):
        return 0.0, 0.0


def has_room() -> bool:
    """Whether one more model can stay loaded: no, where the kernel does not tell of its memory."""
    try:
        lines = [line.split() for line in _MEMORY.read_text().splitlines()]
        known = {name.rstrip(":"): int(value) for name, value, *_ in lines}
        if known["MemAvailable"] < _ROOM * known["MemTotal"]:
            return False
    except (OSError, ValueError, KeyError):
        return False
    try:  # a container has less than its machine
        most, used = (int((_GROUP_MEMORY / f"memory.{name}").read_text()) for name in _GROUP_FILES)
    except (OSError, ValueError):  # another version of control groups, or no limit ("max")
        return True
    return most - used > _ROOM * most
