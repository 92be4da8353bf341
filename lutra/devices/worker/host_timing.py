"""Timing by the host's clock, for models that are done when a run returns."""

from __future__ import annotations

import gc
import time
from typing import Any

from lutra.devices.worker.system_counts import SystemCounts

_MAX_BLOCKS = 400
_SETTLED = 0.02


def timed_by_host(run: Any, request: dict[str, Any], threads: int) -> dict[str, Any]:
    """Warm up, choose the runs per block, then time blocks back to back until the time is used."""
    begun = time.perf_counter()
    run_seconds = _warm_up(run, request["warmup_seconds"])
    block_seconds = max(request["block_seconds"], request["seconds"] / _MAX_BLOCKS)
    runs = max(1, round(block_seconds / run_seconds))
    gc.disable()
    counts = SystemCounts()
    timed_from = time.perf_counter()
    deadline = timed_from + request["seconds"]
    blocks: list[float] = []
    while len(blocks) < request["min_blocks"] or time.perf_counter() < deadline:
        blocks.append(_milliseconds(run, runs))
    ended = time.perf_counter()
    system = counts.since(threads)
    gc.enable()
    return {
        "block_ms": blocks,
        "runs_per_block": runs,
        "busy_seconds": ended - begun,
        "timed_seconds": ended - timed_from,
        "system": system,
    }


def _warm_up(run: Any, seconds: float) -> float:
    """Run until two half-windows agree within 2 % or the time is used; return seconds per run."""
    clock = time.perf_counter
    deadline = clock() + seconds
    durations: list[float] = []
    while True:
        start = clock()
        run()
        end = clock()
        durations.append(end - start)
        half = len(durations) // 2
        settled = half >= 3 and abs(min(durations[half:]) / min(durations[:half]) - 1.0) < _SETTLED
        if (settled and len(durations) % 2 == 0) or (end >= deadline and len(durations) >= 2):
            return max(min(durations), 1e-9)


def _milliseconds(run: Any, runs: int) -> float:
    """Milliseconds per run of ``runs`` in a row."""
    clock = time.perf_counter_ns
    start = clock()
    for _ in range(runs):
        run()
    return (clock() - start) / runs / 1e6
