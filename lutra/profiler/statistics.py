"""From a visit's blocks to a number, and from visits to a measurement with its interval.

Noise on a shared machine is positive and comes in bursts, so a visit is summed up by a low
quantile (it repeats twice as well as the median), and a subject by the median over visits that
are spread in time, whose order-statistic interval needs no assumption about their distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import median

import numpy as np

from lutra.devices.base import Sample
from lutra.tables import Measurement, Visit
from lutra.tables.measurement import Status

VISIT_QUANTILE = 0.2
CONFIDENCE = 0.95


def visit_from_sample(sample: Sample, round_number: int, process: int, drift: float = 0.0) -> Visit:
    """Sum up a sample's blocks (milliseconds per run)."""
    blocks = np.asarray(sample.block_ms)
    return Visit(
        round=round_number,
        process=process,
        low_ms=float(np.quantile(blocks, VISIT_QUANTILE)),
        median_ms=float(np.median(blocks)),
        minimum_ms=float(blocks.min()),
        blocks=len(blocks),
        runs_per_block=sample.runs_per_block,
        timed_seconds=sample.timed_seconds,
        drift=drift,
    )


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The order-statistic interval of the median: symmetric ranks that cover ``confidence``.

    With fewer than six values no ranks cover 95 %; the whole range is returned.
    """
    ordered = sorted(values)
    rank = 0
    while rank + 1 <= (len(ordered) - 1) // 2 and coverage(len(ordered), rank + 1) >= confidence:
        rank += 1
    return ordered[rank], ordered[-1 - rank]


def coverage(size: int, rank: int) -> float:
    """How often the median lies between the values of this rank from both ends (0: the ends)."""
    return 1.0 - 2.0 * sum(comb(size, below) for below in range(rank + 1)) / 2.0**size


def summarise(visits: Sequence[Visit], status: Status) -> Measurement:
    """The measurement that visits add up to.

    Visits taken while the machine drifted are used only where fewer than two others exist;
    the measurement then carries the flag ``drift``. Raises `ValueError` without visits.
    """
    if not visits:
        raise ValueError("no visits to sum up")
    steady = [visit for visit in visits if not visit.flags]
    used = steady if len(steady) >= 2 else list(visits)
    lows = [visit.low_ms for visit in used]
    low, high = median_interval(lows)
    return Measurement(
        latency_ms=median(lows),
        ci_low_ms=low,
        ci_high_ms=high,
        median_ms=median(visit.median_ms for visit in used),
        minimum_ms=min(visit.minimum_ms for visit in used),
        rounds=len({visit.round for visit in used}),
        processes=len({visit.process for visit in used}),
        drift=max(visit.drift for visit in used),
        flags=("drift",) if used is not steady else (),
        status=status,
    )
