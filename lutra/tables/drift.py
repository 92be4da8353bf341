"""How the machine's state moves latencies, and what a visit would have taken in the steady one.

On a shared machine a neighbour's load comes and goes within tens of milliseconds and slows a
model by anything up to two times. A visit is therefore timed in turns with reference blocks, and
its latency taken to follow theirs by a power each: log(latency / steady latency) is the sum of
sensitivity * log(reference / steady reference). The sensitivities, one per reference, are fitted on
a table's visits: for its ops, and once more for its networks, whose long runs average over states.
A reference's steady latency is a low quantile of what it took beside the ops.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lutra.tables.measurement import CALIBRATE, Category, Visit
from lutra.tables.table import LatencyTable

BASELINE_QUANTILE = 0.1
_PRIOR_TOTAL = 1.0  # sum of the sensitivities assumed where the machine was too quiet to tell
_PRIOR_WEIGHT = 0.5  # in units of summed squared logarithms: a minute of a noisy machine exceeds it
_BEYOND_CORRECTION = 1.0  # a slowdown: twice as slow


@dataclass(frozen=True)
class Drift:
    """How latencies follow the references, in the order of a visit's ``reference_ms``.

    ``baseline_ms`` is each one's steady latency, ``sensitivity`` the power by which they follow it.
    """

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
            flags=(*visit.flags, *(("drift",) if slowdown > _BEYOND_CORRECTION else ())),
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


def fit_drift(workloads: Iterable[Sequence[Visit]], prior: Drift | None = None) -> Drift | None:
    """Fit the drift on the visits of each workload; where they tell little it is the ``prior``.

    The baseline is the prior's, where there is one. None where no visit has references.
    """
    groups = [
        [visit for visit in visits if visit.reference_ms and "shared" not in visit.flags]
        for visits in workloads
    ]
    prior = prior or _uninformed([visit.reference_ms for visits in groups for visit in visits])
    if prior is None:
        return None
    moments = _PRIOR_WEIGHT * np.eye(len(prior.sensitivity))
    target = moments @ np.array(prior.sensitivity)
    for visits in groups:
        if len(visits) < 2:
            continue
        states = np.log(np.array([visit.reference_ms for visit in visits]))
        latencies = np.log(np.array([visit.low_ms for visit in visits]))
        states -= states.mean(axis=0)
        moments = moments + states.T @ states
        target = target + states.T @ (latencies - latencies.mean())
    sensitivity = np.linalg.solve(moments, target)
    return Drift(prior.baseline_ms, tuple(sensitivity.tolist()))


def _uninformed(seen: Sequence[tuple[float, ...]]) -> Drift | None:
    if not seen:
        return None
    baseline = np.quantile(np.array(seen), BASELINE_QUANTILE, axis=0)
    share = _PRIOR_TOTAL / len(baseline)
    return Drift(tuple(baseline.tolist()), (share,) * len(baseline))


def table_drifts(table: LatencyTable) -> dict[Category, Drift | None]:
    """The drift of a table's ops, and of its networks.

    A function of the visits in the table and of nothing else, so that what was measured on
    different days is corrected to the same state. That of networks is fitted on those that
    calibrate the table, where there are any: later ones must not move it.
    """
    of_ops = fit_drift(table.all_visits("op").values())
    networks = table.all_visits("network")
    calibrating = {row.key for row in table.rows("network", CALIBRATE)}
    chosen = [seen for (_, key), seen in networks.items() if not calibrating or key in calibrating]
    return {"op": of_ops, "network": fit_drift(chosen, of_ops)}


def reference_visits(table: LatencyTable) -> dict[str, list[float]]:
    """What each reference took when it was visited by itself, in ms."""
    return {
        row.key: [reference_value_ms(visit) for visit in table.visits("reference", row.key)]
        for row in table.rows("reference")
    }


def reference_value_ms(visit: Visit) -> float:
    """What a reference is judged by: without the host, whose share differs between processes."""
    return visit.device_ms or visit.low_ms


def reference_baseline(table: LatencyTable) -> dict[str, float]:
    """Each reference's steady latency in this table, in ms."""
    seen = reference_visits(table)
    return {key: steady_value(sorted(values)) for key, values in seen.items() if values}


def steady_value(ordered: Sequence[float]) -> float:
    """The low quantile of sorted values: what a machine takes when it is steady."""
    return ordered[int(BASELINE_QUANTILE * len(ordered))]
