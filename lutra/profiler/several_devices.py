"""Several devices at once: each is opened and measured in a thread of its own.

What befalls one never touches the others: its error is its result. Stopping is for all: each
thread ends at its next visit or pause, with its table whole.
"""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lutra.devices.base import Device
from lutra.devices.registry import open_device
from lutra.errors import UsageError
from lutra.profiler.record import RunSummary
from lutra.profiler.watch import UNWATCHED, Progress, Watch
from lutra.tables import Target

_SUFFIX = ".lut"
_LONGEST_NAME = 200  # file systems take 255 bytes, SQLite adds names of its own
_WAIT_SECONDS = 0.5


Measure = Callable[[Device, Path, Watch], RunSummary]


@dataclass(frozen=True)
class Job:
    """A device and the table it is measured into; the watch is called from the job's thread."""

    spec: str
    table: Path
    watch: Watch = UNWATCHED


@dataclass(frozen=True)
class JobResult:
    """What a job came to: a summary or an error, never both."""

    job: Job
    summary: RunSummary | None = None
    error: BaseException | None = None


def tables_in(folder: Path, specs: Sequence[str]) -> list[Path]:
    """A table in the folder for each device, named by its spec.

    Letters, digits and ``.-_`` stay, so that no spec leads out of the folder. Raises `UsageError`
    when a spec is given twice or two would share a table, on any file system.
    """
    owners: dict[str, str] = {}
    tables = []
    for spec in specs:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", spec)[:_LONGEST_NAME] + _SUFFIX
        other = owners.get(name.casefold())
        if other == spec:
            raise UsageError(f"{spec} is given twice")
        if other is not None:
            raise UsageError(f"{other} and {spec} would share the table {name}: use a folder each")
        owners[name.casefold()] = spec
        tables.append(folder / name)
    return tables


def profile_devices(
    jobs: Sequence[Job],
    measure: Measure,
    *,
    on_result: Callable[[JobResult], None] = lambda _: None,
) -> list[JobResult]:
    """Open every job's device and ``measure`` it, all at once; results in the order of the jobs.

    ``measure`` calls `lutra.profile` or the like; it must pass the watch on, whose
    ``sleep`` is not the job's own, but one that a stop interrupts. ``on_result`` is called as each
    job ends, from its thread. On KeyboardInterrupt, all end in order before it is raised again; a
    second one does not wait.
    """
    shared = _Shared(measure, on_result)
    started: list[_Thread] = []
    try:
        for number, job in enumerate(jobs):
            started.append(_Thread(shared, number, job))
            started[-1].start()
        _wait(started)
    except BaseException:
        shared.stop.set()
        _wait([thread for thread in started if thread.ident is not None])
        raise
    return [shared.results[number] for number in range(len(jobs))]


def _wait(threads: Sequence[_Thread]) -> None:
    """Wait until all have ended; in steps, as one long wait is deaf to Ctrl-C on Windows.

    Not by join(): Ctrl-C in the middle of one has Python 3.11 and 3.12 believe that it ended.
    """
    for thread in threads:
        ended = False
        while not ended:
            ended = thread.ended.wait(_WAIT_SECONDS)


class _Thread(threading.Thread):
    """Runs one job; a daemon, so that a second Ctrl-C need not wait for it."""

    def __init__(self, shared: _Shared, number: int, job: Job) -> None:
        super().__init__(name=job.spec, daemon=True)
        self.ended = threading.Event()
        self._work = partial(shared.run, number, job)

    def run(self) -> None:
        try:
            self._work()
        finally:
            self.ended.set()


class _Stopped(BaseException):
    """Ends a job that is to stop; no error, so nothing on the way takes it for one."""


class _Shared:
    """What the threads share."""

    def __init__(self, measure: Measure, on_result: Callable[[JobResult], None]) -> None:
        self.stop = threading.Event()
        self.results: dict[int, JobResult] = {}
        self._measure = measure
        self._on_result = on_result
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self, number: int, job: Job) -> None:
        """A thread's whole work; what goes wrong is the job's result."""
        try:
            summary = self._profile(job)
        except _Stopped:
            return
        except BaseException as error:
            # What a frame still holds of the run is closed in the thread that opened it.
            traceback.clear_frames(error.__traceback__)
            result = JobResult(job, error=error)
        else:
            result = JobResult(job, summary)
        self.results[number] = result
        self._on_result(result)

    def _profile(self, job: Job) -> RunSummary:
        self._check()
        with open_device(job.spec) as device:
            self._claim(device, job.spec)
            return self._measure(device, job.table, self._stoppable(job.watch))

    def _claim(self, device: Device, spec: str) -> None:
        """Refuse a device that is measured under another spec: each would slow the other down."""
        name = device.info().spec
        with self._lock:
            owner = self._owners.get(name)
            if owner is not None:
                raise UsageError(f"it is the device that is measured as {owner}")
            self._owners[name] = spec

    def _stoppable(self, watch: Watch) -> Watch:
        def on_ready(target: Target) -> None:
            self._check()
            watch.on_ready(target)

        def on_progress(progress: Progress) -> None:
            self._check()
            watch.on_progress(progress)

        def sleep(seconds: float) -> None:
            self.stop.wait(seconds)
            self._check()

        return replace(watch, on_ready=on_ready, on_progress=on_progress, sleep=sleep)

    def _check(self) -> None:
        if self.stop.is_set():
            raise _Stopped
