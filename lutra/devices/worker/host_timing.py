"""Timing by the host's clock, for models that are done when a run returns."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator
from typing import Any

from lutra.devices.worker.system_counts import SystemCounts

_MAX_BLOCKS = 400
_MIN_BLOCKS = 3
_SETTLED = 0.02
_REFILL_BELOW_SECONDS = 0.001


def timed_by_host(
    run: Any, references: list[Any], request: dict[str, Any], threads: int
) -> dict[str, Any]:
    """Warm up, choose the runs per block, then time blocks until the time is used."""
    begun = time.perf_counter()
    for reference in references:
        reference()
    run_seconds = _warm_up(run, request["warmup_seconds"])
    block_seconds = max(request["block_seconds"], request["seconds"] / _MAX_BLOCKS)
    runs = max(1, round(block_seconds / run_seconds))
    gc.disable()
    counts = SystemCounts()
    timed_from = time.perf_counter()
    refill = bool(references) and run_seconds < _REFILL_BELOW_SECONDS
    blocks: list[float] = []
    between: list[list[float]] = [[] for _ in references]
    for block_ms in _blocks(run, runs, request["seconds"], refill=refill):
        blocks.append(block_ms)
        for reference, seen in zip(references, between):  # noqa: B905  (boards have Python 3.8)
            reference()  # the model took its place in the caches: they tell of the machine only
            seen.append(_milliseconds(reference, 1))
    ended = time.perf_counter()
    system = counts.since(threads)
    gc.enable()
    return {
        "block_ms": blocks,
        "reference_ms": between,
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


def _blocks(run: Any, runs: int, seconds: float, *, refill: bool) -> Iterator[float]:
    """Milliseconds per run of each block, until ``seconds`` are used.

    ``refill``: run once before each block, so that the caches hold this model again.
    """
    deadline = time.perf_counter() + seconds
    for block in itertools.count(1):
        if refill:
            run()
        yield _milliseconds(run, runs)
        if block >= _MIN_BLOCKS and time.perf_counter() >= deadline:
            return


def _milliseconds(run: Any, runs: int) -> float:
    """Milliseconds per run of ``runs`` in a row."""
    clock = time.perf_counter_ns
    start = clock()
    for _ in range(runs):
        run()
    return (clock() - start) / runs / 1e6
