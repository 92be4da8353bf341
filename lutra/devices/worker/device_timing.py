"""Timing by a device's own clock, for models whose work the host only hands over.

A block is a number of runs in a row between two events of the device, with one synchronisation at
its end: a timer of the host would time the handing over. A model that is timed so has

* ``runs_at_once``: how many runs one turn over its input buffers has;
* ``milliseconds(runs)``: one block of that many runs (a multiple), in milliseconds per run;
* ``replay``: the same work as the device alone does it, timed the same way; or None.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

_SETTLED = 0.02
_CLOCK_SETTLED = 0.01
_WINDOW = 2  # blocks; two windows are compared
_LARGEST_STEP = 32  # of a short block's length not much is known: grow by no more at once
_MOST_RUNS = 1 << 20
_REPLAY_SHARE = 0.25


def timed_by_device(
    model: Any,
    request: dict[str, Any],
    read_clock: Callable[[], float | None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Warm up until blocks and the device's clock stand still, then time blocks.

    ``read_clock`` gives the device's clock in MHz, or None where that is not known.
    """
    begun = clock()
    runs = _runs_per_block(model, request["block_seconds"])
    _settle(model, runs, clock() + request["warmup_seconds"], read_clock, clock)
    gc.disable()
    timed_from = clock()
    clocks: list[float | None] = []
    least, seconds = request["min_blocks"], request["seconds"]
    blocks = _blocks(model, runs, least, seconds, clock, lambda: clocks.append(read_clock()))
    timed_seconds = clock() - timed_from
    device_ms = _device_ms(model, request, clock)
    gc.enable()
    known = [value for value in clocks if value is not None]
    return {
        "block_ms": blocks,
        "runs_per_block": runs,
        "busy_seconds": clock() - begun,
        "timed_seconds": timed_seconds,
        "clock_mhz": median(known) if known else None,
        "device_ms": device_ms,
    }


def _runs_per_block(model: Any, block_seconds: float) -> int:
    """As many runs, in whole turns, as make a block last long enough."""
    runs: int = model.runs_at_once
    model.milliseconds(runs)  # the first one initialises things
    while runs < _MOST_RUNS:
        wanted = block_seconds * 1e3 / (model.milliseconds(runs) * runs)
        if wanted <= 1.0:
            break
        turns = runs / model.runs_at_once * min(1.2 * wanted, _LARGEST_STEP)
        runs = max(round(turns), runs // model.runs_at_once + 1) * model.runs_at_once
    return runs


def _settle(
    model: Any,
    runs: int,
    deadline: float,
    read_clock: Callable[[], float | None],
    clock: Callable[[], float],
) -> None:
    """Run blocks until the last ones agree with those before, and so do the clocks."""
    blocks: list[float] = []
    clocks: list[float | None] = []
    while not (_agree(blocks, _SETTLED) and _agree(clocks, _CLOCK_SETTLED)):
        if clock() >= deadline:
            return
        blocks.append(model.milliseconds(runs))
        clocks.append(read_clock())


def _agree(values: list[Any], tolerance: float) -> bool:
    """Whether the last two windows have the same median; also true where a value is not known."""
    if len(values) < 2 * _WINDOW:
        return False
    recent = values[-2 * _WINDOW :]
    if None in recent:
        return True
    earlier, later = median(recent[:_WINDOW]), median(recent[_WINDOW:])
    return bool(abs(later / earlier - 1.0) <= tolerance)


def _blocks(
    model: Any,
    runs: int,
    least: int,
    seconds: float,
    clock: Callable[[], float],
    after_each: Callable[[], object] = lambda: None,
) -> list[float]:
    """Milliseconds per run of each block, ``least`` or until ``seconds`` are used."""
    deadline = clock() + seconds
    blocks: list[float] = []
    while len(blocks) < least or clock() < deadline:
        blocks.append(model.milliseconds(runs))
        after_each()
    return blocks


def _device_ms(model: Any, request: dict[str, Any], clock: Callable[[], float]) -> float | None:
    """What a run takes when the device does not wait for the host."""
    if model.replay is None:
        return None
    runs = _runs_per_block(model.replay, request["block_seconds"])
    least, seconds = request["min_blocks"], _REPLAY_SHARE * request["seconds"]
    return median(_blocks(model.replay, runs, least, seconds, clock))
