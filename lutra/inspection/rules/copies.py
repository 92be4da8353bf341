"""Values that stand for several ops, or for another device's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from lutra.inspection.evidence import Evidence
from lutra.inspection.finding import Finding, finding
from lutra.inspection.rules.digits import FEW, significant

_RUN = 4  # ops of one value
_LEAST_SHARE = 0.03
_SCALED = 1e-6  # relative
_ENOUGH = 8


def repeated(evidence: Evidence) -> Iterator[Finding]:
    """Catches one value that was put down for several ops: an op's, or a timer's smallest step.

    Different ops measured to many digits do not agree in all of them.
    """
    keys: dict[float, dict[str, None]] = defaultdict(dict)
    for value in evidence.values:
        if value.latency_ms > 0:
            keys[value.latency_ms][value.op.key] = None
    runs = {ms: [*found] for ms, found in keys.items() if len(found) >= _RUN}
    exact = [key for ms, found in runs.items() if significant(ms) > FEW for key in found]
    if exact:
        yield finding(
            "repeated",
            "error",
            f"different ops with the same number to its last digit, {_RUN} and more of each: they"
            " are copies; measure them",
            exact,
        )
    coarse = [key for ms, found in runs.items() if significant(ms) <= FEW for key in found]
    if len(coarse) > _LEAST_SHARE * len({value.op.key for value in evidence.values}):
        yield finding(
            "repeated",
            "warning",
            "different ops with the same number: it has too few digits, or the timer was too"
            " coarse; time more runs at once",
            coarse,
        )


def copied(evidence: Evidence, other: Evidence, name: str) -> Iterator[Finding]:
    """Catches rows of another device: 6 of 96 in a published Jetson table are a phone's.

    Of tables of one target nothing is said: what they share may have been merged.
    """
    if evidence.target == other.target and not evidence.target.is_imported:
        return
    theirs = {(value.op, value.resolution): value.latency_ms for value in other.values}
    both = [(theirs.get((v.op, v.resolution), 0.0), v.latency_ms) for v in evidence.values]
    pairs = np.array(both, dtype=np.float64).reshape(-1, 2)
    shared = (pairs > 0).all(axis=1)
    if not shared.any():
        return
    equal = shared & (pairs[:, 0] == pairs[:, 1])
    many = np.array([significant(ms) > FEW for ms in pairs[:, 1]])
    exact = equal & many
    if exact.any():
        yield finding(
            "copied",
            "error",
            f"rows that are those of {name} to the last digit, which is of another target; measure"
            " them, or leave them out",
            evidence.keys(exact),
        )
        return
    ratios = pairs[shared, 1] / pairs[shared, 0]
    middle = float(np.median(ratios))
    if len(ratios) >= _ENOUGH and np.abs(ratios / middle - 1.0).max() <= _SCALED:
        yield finding(
            "copied",
            "error",
            f"every row is {middle:.6g} times that of {name}: the table was computed from it",
            evidence.keys(shared),
        )
