"""From a visit's blocks to a number, and from visits to a measurement with its interval.

Noise on a shared machine is positive and comes in bursts, so a visit is summed up by a low
quantile (it repeats twice as well as the median), and a workload by the median over visits that
are spread in time, whose order-statistic interval needs no assumption about their distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from statistics import median

import numpy as np

from lutra.devices.base import Sample, SystemShare
from lutra.tables import Measurement, Visit
from lutra.tables.drift import Drift

SHARED_LIMIT = 0.02  # docs/decisions.md: A core of its own
VISIT_QUANTILE = 0.2  # docs/decisions.md: Low quantile, median
CONFIDENCE = 0.95


def visit_from_sample(sample: Sample, round_number: int, process: int, drift: float = 0.0) -> Visit:
    """Sum up a sample's blocks (milliseconds per run)."""
    blocks = np.asarray(sample.block_ms)
    low, middle = np.quantile(blocks, (VISIT_QUANTILE, 0.5))
    return Visit(
        round=round_number,
        process=process,
        low_ms=float(low),
        median_ms=float(middle),
        minimum_ms=float(blocks.min()),
        blocks=len(blocks),
        runs_per_block=sample.runs_per_block,
        timed_seconds=sample.timed_seconds,
        drift=drift,
        flags=(*sample.flags, *_shared(sample.system)),
        clock_mhz=sample.clock_mhz,
        device_ms=sample.device_ms,
        reference_ms=tuple(
            float(np.quantile(seen, VISIT_QUANTILE)) for seen in sample.reference_ms
        ),
        **(asdict(sample.system) if sample.system else {}),
    )


def _shared(system: SystemShare | None) -> tuple[str, ...]:
    """The flag of a visit that did not have its core to itself."""
    if system is None or system.waited_share + system.stolen_share <= SHARED_LIMIT:
        return ()
    return ("shared",)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The order-statistic interval of the median: symmetric ranks that cover ``confidence``.

    With fewer than six values no ranks cover 95 %; the whole range is returned.
    """
    ordered = sorted(values)
    rank = interval_rank(len(ordered), confidence)
    return ordered[rank], ordered[-1 - rank]


@lru_cache(maxsize=4096)
def interval_rank(size: int, confidence: float) -> int:
    """The largest rank from both ends (0: the extremes) whose values still cover ``confidence``.

    The median of a continuous distribution lies between the values of rank r with probability
    1 - 2 * sum(binomial(size, i) for i <= r) / 2^size.
    """
    outside, rank = 0.0, 0
    term = 2.0 ** (1 - size)
    while rank <= (size - 1) // 2:
        outside += term
        if 1.0 - outside < confidence:
            break
        term *= (size - rank) / (rank + 1)
        rank += 1
    return max(0, rank - 1)


def summarise(visits: Sequence[Visit]) -> Measurement:
    """The measurement that visits add up to, with the status ``partial``.

    Visits taken while the machine drifted are used only where fewer than two others exist: then
    the three with the least drift, and the measurement carries their flags. Raises `ValueError`
    without visits.
    """
    if not visits:
        raise ValueError("no visits to sum up")
    steady = [visit for visit in visits if not visit.flags]
    used = steady if len(steady) >= 2 else sorted(visits, key=lambda visit: visit.drift)[:3]
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
        flags=tuple(dict.fromkeys(flag for visit in used for flag in visit.flags)),
        status="partial",
        clock_mhz=_median_known(visit.clock_mhz for visit in used),
        device_ms=_median_known(visit.device_ms for visit in used),
    )


def repeatability_percent(visits: Sequence[Visit], drift: Drift | None = None) -> float | None:
    """How far the medians of one workload's odd and even rounds lie apart, in percent.

    None where it was not visited in both. ``drift`` corrects the visits first.
    """
    visits = [drift.corrected(visit) for visit in visits] if drift else visits
    steady = [visit for visit in visits if not visit.flags] or list(visits)
    halves = [[visit.low_ms for visit in steady if visit.round % 2 == parity] for parity in (0, 1)]
    if not all(halves):
        return None
    first, second = (float(np.median(half)) for half in halves)
    return 200.0 * abs(first - second) / (first + second)


def _median_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
