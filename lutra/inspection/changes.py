"""What changed from one latency to another: a ratio, its interval, and a verdict.

Changes are logarithms of ratios inside and percents outside. A machine's state changes all
latencies by about the same factor, and may have done so by any part of what all have in common: a
row's verdict is about what goes beyond that. Of many rows a few are far off by chance; which count
is decided by Benjamini and Hochberg (1995), so that of those called changed one in twenty is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from lutra.profiler.statistics import standard_error
from lutra.tables import Measurement

Verdict = Literal["faster", "slower", "unchanged", "not separated", "flagged"]
Floats = npt.NDArray[np.float64]
StateRange = tuple[Floats | np.float64, Floats | np.float64]
"""What the machine's state may have done to changes, as logarithms: from, to."""

ENOUGH = 8  # rows that tell what they have in common
_FALSE = 0.05  # of the rows that are called changed
_Z, _COVERED = 1.96, 0.975  # standard errors that cover 95 %, two-sided
_OF_RUNS = 0.0052  # relative: 99.3 % of rows of two tables lay within 2 % (docs/measurement.md)


@dataclass(frozen=True)
class Change:
    """Latencies in ms and by how many percent the second is more, with a 95 % interval."""

    a_ms: float
    b_ms: float
    percent: float
    low_percent: float
    high_percent: float
    verdict: Verdict


def change(a_ms: float, b_ms: float, error: float, verdict: Verdict) -> Change:
    """A change whose logarithm has a standard error."""
    return _change(a_ms, b_ms, _Z * error, verdict)


def _change(a_ms: float, b_ms: float, reach: float, verdict: Verdict | None) -> Change:
    """A change whose logarithm's interval reaches so far; the verdict by that, if none is given."""
    middle = float(np.log(b_ms / a_ms))
    if verdict is None:
        verdict = _word(middle, separated=True) if abs(middle) > reach else "unchanged"
    middle_percent, low, high = map(_percent, (middle, middle - reach, middle + reach))
    return Change(a_ms, b_ms, middle_percent, low, high, verdict)


def relative_error(measurement: Measurement, process_spread: float) -> float:
    """A measurement's standard error, relative, and of one run.

    ``process_spread`` is the standard deviation of processes of the same table
    (`lutra.profiler.statistics.process_spread`).
    """
    return math.hypot(standard_error(measurement, process_spread), _OF_RUNS)


# docs/decisions.md: What a diff may call changed
def state_range(in_common: Floats, state: float | None) -> StateRange | None:
    """What the machine's state may have done to each of (N,) changes: from, to.

    Any part of what they have ``in_common``; where the states' half-width is known, no more than
    that. None where rows are too few to tell and it is not known.
    """
    if len(in_common) < ENOUGH:
        return None if state is None else (np.float64(-state), np.float64(state))
    if state is not None:
        in_common = np.clip(in_common, -state, state)
    return np.minimum(in_common, 0.0), np.maximum(in_common, 0.0)


def verdicts(
    logs: Floats, errors: Floats, by_state: StateRange | None, common_error: float = 0.0
) -> list[Verdict]:
    """A verdict on each of (N,) changes with their standard errors, beyond what the state did."""
    from scipy.special import ndtr

    if not len(logs):
        return []
    low, high = by_state or (0.0, 0.0)
    beyond = logs - np.clip(logs, low, high)
    chances = 2.0 * ndtr(-np.abs(beyond) / np.hypot(errors, common_error))
    changed = _discoveries(chances) & (beyond != 0.0)
    return [_word(value, separated=by_state is not None) if one else "unchanged"
            for value, one in zip(beyond, changed, strict=True)]  # fmt: skip


def _discoveries(chances: Floats) -> npt.NDArray[np.bool_]:
    """Which of (N,) p-values count, so that of those `_FALSE` do by chance: Benjamini-Hochberg."""
    ordered = np.sort(chances)
    passed = np.flatnonzero(ordered <= _FALSE * np.arange(1, len(ordered) + 1) / len(ordered))
    return chances <= (ordered[passed[-1]] if len(passed) else -1.0)


def common_error(logs: Floats, errors: Floats) -> float:
    """The standard error of the median of (N,) changes; 0 where they are too few to have one."""
    if len(logs) < ENOUGH:
        return 0.0
    scatter = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    # Of a median, to that of a mean: the square root of pi / 2.
    return 1.2533 * max(scatter, float(np.median(errors))) / float(np.sqrt(len(logs)))


def mean_change(a_ms: Floats, b_ms: Floats, state: float | None) -> Change:
    """What several networks changed by on average: that of their sums in ms.

    Its interval is Student's, with what states may do, where that is known.
    """
    from scipy.special import stdtrit

    ratios, weights = b_ms / a_ms, a_ms / np.sum(a_ms)
    ratio = float(weights @ ratios)
    deviations = weights * (ratios / ratio - 1.0)
    free = len(ratios) - 1
    error = float(np.sqrt(np.sum(deviations**2) * len(ratios) / free))
    reach = float(stdtrit(free, _COVERED)) * error
    return _overall(float(np.sum(a_ms)), float(np.sum(b_ms)), reach, state)


def sum_change(a_ms: float, b_ms: float, error: float, state: float | None) -> Change:
    """The change of a sum: its interval also of what states may do, where that is known."""
    return _overall(a_ms, b_ms, _Z * error, state)


def _overall(a_ms: float, b_ms: float, reach: float, state: float | None) -> Change:
    """A change that the machine's state has all of: where that is not known, no verdict stands."""
    found = _change(a_ms, b_ms, float(np.hypot(reach, state or 0.0)), None)
    if state is None and found.verdict != "unchanged":
        return replace(found, verdict="not separated")
    return found


def _word(value: float, *, separated: bool) -> Verdict:
    if not separated:
        return "not separated"
    return "slower" if value > 0.0 else "faster"


def _percent(logarithm: float) -> float:
    return 100.0 * float(np.expm1(logarithm))
