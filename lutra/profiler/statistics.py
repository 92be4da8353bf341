"""From a visit's blocks to a number, and from visits to a measurement with its interval.

Noise on a shared machine is positive and comes in bursts, so a visit is summed up by a low
quantile (it repeats twice as well as the median), and a workload by the median over visits that
are spread in time, whose order-statistic interval needs no assumption about their distribution.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from statistics import fmean, median

import numpy as np

from lutra.devices.base import Sample, SystemShare
from lutra.tables import Measurement, Visit

SHARED_LIMIT = 0.02  # docs/decisions.md: A core of its own
VISIT_QUANTILE = 0.2  # docs/decisions.md: Low quantile, median
CONFIDENCE = 0.95
_THIN, _ENOUGH_VISITS = 0.15, 6
_INTERVAL_ERRORS = 1.96  # standard errors that a 95 % interval reaches to either side


def visit_from_sample(sample: Sample, round_number: int, process: int, run: int = 0) -> Visit:
    """Sum up a sample's blocks (milliseconds per run)."""
    blocks = sorted(sample.block_ms)
    return Visit(
        round=round_number,
        process=process,
        low_ms=_quantile(blocks, VISIT_QUANTILE),
        median_ms=_quantile(blocks, 0.5),
        minimum_ms=blocks[0] if sample.minimum_ms is None else sample.minimum_ms,
        blocks=len(blocks),
        runs_per_block=sample.runs_per_block,
        timed_seconds=sample.timed_seconds,
        drift=0.0,
        flags=(*sample.flags, *_shared(sample.system)),
        clock_mhz=sample.clock_mhz,
        device_ms=sample.device_ms,
        run=run,
        **(asdict(sample.system) if sample.system else {}),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    """What ``share`` of sorted values lie below; numpy says the same in thirty times the time."""
    below, part = divmod(share * (len(ordered) - 1), 1.0)
    low = ordered[int(below)]
    high = ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1.0 - part)


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

    With fewer than six visits the interval is no narrower than 15 % by their squared number: their
    range covers less than 95 %, and that of one visit nothing. Visits taken while the machine
    drifted are used only where fewer than two others exist: then the three with the least drift,
    and the measurement carries their flags. Raises `ValueError` without visits.
    """
    if not visits:
        raise ValueError("no visits to sum up")
    steady = [visit for visit in visits if not visit.flags]
    used = steady if len(steady) >= 2 else sorted(visits, key=lambda visit: visit.drift)[:3]
    lows = [visit.low_ms for visit in used]
    low, high = median_interval(lows)
    middle, thin = median(lows), _thin_half_width(len(lows))
    return Measurement(
        latency_ms=middle,
        ci_low_ms=min(low, middle / (1.0 + thin)),
        ci_high_ms=max(high, middle * (1.0 + thin)),
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


def _thin_half_width(visits: int) -> float:
    """The least half-width of so few visits, relative to their value; 0 for enough."""
    return 0.0 if visits >= _ENOUGH_VISITS else _THIN / visits**2


def standard_error(measurement: Measurement, process_spread: float) -> float:
    """How far a measurement may be off, relative: by its interval, and by how few processes ran.

    ``process_spread`` is the standard deviation of processes of the same table.
    """
    of_visits = math.log(measurement.ci_high_ms / measurement.ci_low_ms) / 2.0 / _INTERVAL_ERRORS
    return math.hypot(of_visits, process_spread / math.sqrt(max(measurement.processes, 1)))


def repeatability_percent(visits: Sequence[Visit]) -> float | None:
    """How far the medians of one workload's odd and even processes lie apart, in percent.

    Processes, because where a model comes to lie in memory stays for a process's life: halves of
    one process agree better than a network repeats (on an EPYC, LiteRT: 0.9 against 1.5 %). Of the
    run with the most visits; None where that had one process.
    """
    ran = _by_process(visits)
    halves = [[value for own in ran[parity::2] for value in own] for parity in (0, 1)]
    if not all(halves):
        return None
    first, second = (float(np.median(half)) for half in halves)
    return 200.0 * abs(first - second) / (first + second)


def process_ratios(visits: Sequence[Visit]) -> list[float]:
    """What a workload took in each process of the run with the most visits, to what it took.

    1, as of one process, for a workload whose visits are not there.
    """
    ran = _by_process(visits) or [[1.0]]
    middle = median(value for own in ran for value in own)
    return [median(own) / middle for own in ran]


def process_spread(networks: Iterable[Sequence[Visit]]) -> float:
    """How far processes that run the same network lie apart: a relative standard deviation.

    Beside what visits of one process differ by, which says nothing of the next process; that is
    told by how the medians of a process's halves differ, which bursts of other work move as little
    as they move the process's own. The median over networks counts: a burst in one process is no
    property of processes. 0 where each network ran in one process only.
    """
    between, within = [], []
    for visits in networks:
        ran = _by_process(visits)
        if len(ran) > 1 and min(map(len, ran)) > 1:
            middle = median(value for own in ran for value in own)
            medians = [median(own) / middle for own in ran]
            halves = [(median(own[::2]) - median(own[1::2])) / middle for own in ran]
            between.append(_usual_variance(float(np.var(medians, ddof=1)), len(ran) - 1))
            # Two halves differ by four times the variance of a whole.
            within.append(_usual_variance(fmean(half**2 for half in halves) / 4.0, len(ran)))
    if not between:
        return 0.0
    return math.sqrt(max(median(between) - median(within), 0.0))


def _usual_variance(variance: float, free: int) -> float:
    """A variance of normal values, such that the median of many is right, as their mean is."""
    from scipy.special import chdtri  # scipy.stats takes half a second to import

    return float(variance * free / chdtri(free, 0.5))


def _by_process(visits: Sequence[Visit]) -> list[list[float]]:
    """The steady latencies of the run with the most visits, process by process, in ms."""
    steady = [visit for visit in visits if not visit.flags] or list(visits)
    runs = Counter(visit.run for visit in steady)
    run = max(runs, key=lambda number: (runs[number], number), default=0)
    ran: dict[int, list[float]] = defaultdict(list)
    for visit in steady:
        if visit.run == run:
            ran[visit.process].append(visit.low_ms)
    return [ran[process] for process in sorted(ran)]


def _median_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
