"""How the machine's state moves latencies, and what a visit would have taken in the steady one.

On a shared machine a neighbour's load comes and goes within tens of milliseconds and slows a
model by anything up to two times. A visit is therefore timed in turns with reference blocks, and
its latency taken to follow theirs by a power each: log(latency / steady latency) is the sum of
sensitivity * log(reference / steady reference). The sensitivities are common to all subjects of a
table and fitted on its visits; what is steady is a low quantile of the references in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lutra.tables import LatencyTable, Visit

BASELINE_QUANTILE = 0.1
_PRIOR_TOTAL = 1.0  # where the machine was too quiet to tell, latency follows the references
_PRIOR_WEIGHT = 0.5  # in units of summed squared logarithms: a minute of a noisy machine exceeds it
_BEYOND_CORRECTION = 1.0


@dataclass(frozen=True)
class Drift:
    """``baseline_ms``: the references' steady latency; ``sensitivity``: a power for each."""

    baseline_ms: tuple[float, ...]
    sensitivity: tuple[float, ...]

    def slowdown(self, visit: Visit) -> float:
        """How much slower than in the steady state the visit was (0.3: 30 %)."""
        return math.expm1(
            sum(
                power * math.log(seen / steady)
                for power, seen, steady in zip(
                    self.sensitivity, visit.reference_ms, self.baseline_ms, strict=True
                )
            )
        )

    def corrected(self, visit: Visit) -> Visit:
        """The visit as the steady machine would have had it; unchanged if it has no references.

        Flagged ``drift`` where the machine was more than twice as slow.
        """
        if len(visit.reference_ms) != len(self.baseline_ms):
            return visit
        slowdown = self.slowdown(visit)
        factor = 1.0 / (1.0 + slowdown)
        return replace(
            visit,
            low_ms=visit.low_ms * factor,
            median_ms=visit.median_ms * factor,
            minimum_ms=visit.minimum_ms * factor,
            drift=slowdown,
            flags=("drift",) if slowdown > _BEYOND_CORRECTION else (),
        )

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Drift:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        baseline, sensitivity = (
            tuple(float(value) for value in document[name])
            for name in ("baseline_ms", "sensitivity")
        )
        if len(baseline) != len(sensitivity) or not all(value > 0 for value in baseline):
            raise ValueError("a drift needs as many positive baselines as sensitivities")
        return cls(baseline, sensitivity)


def fit_drift(subjects: Iterable[Sequence[Visit]]) -> Drift | None:
    """The drift that visits of many subjects tell of; None where none has references."""
    groups = [[visit for visit in visits if visit.reference_ms] for visits in subjects]
    seen = [visit.reference_ms for visits in groups for visit in visits]
    if not seen:
        return None
    baseline = np.quantile(np.array(seen), BASELINE_QUANTILE, axis=0)
    count = len(baseline)
    moments, shared = _PRIOR_WEIGHT * np.eye(count), np.full(count, _PRIOR_TOTAL / count)
    target = moments @ shared
    for visits in groups:
        if len(visits) < 2:
            continue
        states = np.log(np.array([visit.reference_ms for visit in visits]))
        latencies = np.log(np.array([visit.low_ms for visit in visits]))
        states -= states.mean(axis=0)
        moments = moments + states.T @ states
        target = target + states.T @ (latencies - latencies.mean())
    sensitivity = np.linalg.solve(moments, target)
    return Drift(tuple(baseline.tolist()), tuple(sensitivity.tolist()))


def table_drift(table: LatencyTable) -> Drift | None:
    """The drift of a table's ops, or, where it has none, of its networks.

    It is a function of the visits in the table and of nothing else, so that ops and networks that
    were measured on different days are corrected to the same state.
    """
    return fit_drift(table.all_visits("op").values()) or fit_drift(
        table.all_visits("network").values()
    )
