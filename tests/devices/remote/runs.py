"""Small profiling runs on devices that break, and what must hold of their tables."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from lutra.devices.base import Device, RuntimeConfig
from lutra.profiler.bench import open_bench, open_or_create
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.watch import Progress, Watch
from lutra.profiler.workload import Workload
from lutra.tables import LatencyTable
from tests.devices.benchmark_model.programs import latency_ms, minimum_ms

QUICK = TimingProtocol(
    rule=StoppingRule(min_rounds=3, min_processes=2, max_rounds=4), limit_seconds=1.5
)
SETTING = RuntimeConfig("benchmark_model")


def workloads_of(models: Sequence[Path]) -> list[Workload]:
    """Each file as a workload of a table."""
    return [Workload("network", f"model {path.name}", path, "model") for path in models]


def measure(
    device: Device,
    table: Path,
    models: Sequence[Path],
    on_progress: Callable[[Progress], None] = lambda _: None,
    config: RuntimeConfig = SETTING,
    protocol: TimingProtocol = QUICK,
    sleep: Callable[[float], None] = time.sleep,
) -> RunSummary:
    """Profile files into a table, as `lutra profile --model` does; a `Fault` must happen."""
    with (
        it_happens(on_progress),
        open_bench(device, config) as bench,
        open_or_create(table, bench.target) as opened,
    ):
        return bench.measure(
            opened,
            workloads_of(models),
            protocol,
            watch=Watch(on_progress=on_progress, sleep=sleep),
        )


@dataclass
class Fault:
    """An ``on_progress`` that does something once, when so many visits are done."""

    visits: int
    do: Callable[[], object]
    happened: bool = False

    def __call__(self, progress: Progress) -> None:
        if progress.done >= self.visits and not self.happened:
            self.happened = True
            self.do()


def after_visits(count: int, do: Callable[[], object]) -> Fault:
    """A fault for a run; whoever runs it asserts by `it_happens` that it did."""
    return Fault(count, do)


@contextlib.contextmanager
def it_happens(on_progress: Callable[[Progress], None]) -> Iterator[None]:
    """Assert, however the run in its body ends, that its fault happened."""
    try:
        yield
    finally:
        if isinstance(on_progress, Fault):
            assert on_progress.happened, "the fault never happened"


@contextlib.contextmanager
def when(condition: Callable[[], bool], do: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as a condition holds while the body runs; assert that it did."""
    happened, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            if condition():
                do()
                happened.set()
                return
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        assert happened.is_set(), "the fault never happened"


def check_table(table: Path, models: Sequence[Path], failed: Sequence[Path] = ()) -> None:
    """Every model has its row, each with the very value that the program gave, or a failure."""
    with LatencyTable.open(table) as opened:
        rows = {row.key: row for row in opened.rows("network")}
        visits = {key: opened.visits("network", key) for key in rows}
    assert len(rows) == len(models)
    for path in models:
        row = rows[f"model {path.name}"]
        if path in failed:
            assert row.measurement is None
            assert row.failure is not None
            assert row.failure.message
            continue
        assert row.measurement is not None, row
        assert row.measurement.latency_ms == pytest.approx(latency_ms(path), rel=1e-9)
        assert row.status == "stable"
        for visit in visits[row.key]:
            assert visit.low_ms == pytest.approx(latency_ms(path), rel=1e-9)
            assert visit.minimum_ms == pytest.approx(minimum_ms(path), rel=1e-9)
