"""Small profiling runs on devices that break, and what must hold of their tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
    """Profile files into a table, as `lutra profile --model` does."""
    with open_bench(device, config) as bench, open_or_create(table, bench.target) as opened:
        return bench.measure(
            opened,
            workloads_of(models),
            protocol,
            watch=Watch(on_progress=on_progress, sleep=sleep),
        )


def after_visits(count: int, do: Callable[[], object]) -> Callable[[Progress], None]:
    """An ``on_progress`` that does something once, when so many visits are done."""
    done: list[bool] = []

    def on_progress(progress: Progress) -> None:
        if progress.done >= count and not done:
            done.append(True)
            do()

    return on_progress


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
