"""Rows that do not fit in with those of ops like theirs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lutra.inspection.evidence import Evidence, Floats, Mask
from lutra.inspection.finding import Finding, Severity, finding

# Times what the ops nearest to it take. In eight sound tables of four devices no row is beyond 2.6.
# Real cliffs, such as 7x7 depthwise kernels without a fast path, reach 12 and have company.
_STRANGE, _IMPOSSIBLE = 4.0, 30.0


def outlier(evidence: Evidence) -> Iterator[Finding]:
    """Catches single wrong rows: a slipped decimal point, a unit of its own, a stalled machine.

    An op is compared with the twelve most like it (`neighbourhood`): a cliff that is the runtime's
    moves them too.
    """
    factors = np.ones(len(evidence.values))
    for kind in evidence.kinds:
        factors[kind.where] = np.exp(np.abs(kind.from_neighbours))
    yield from _beyond(evidence, factors >= _IMPOSSIBLE, "error", factors)
    strange = (factors >= _STRANGE) & (factors < _IMPOSSIBLE)
    yield from _beyond(evidence, strange, "warning", factors)


def _beyond(
    evidence: Evidence, where: Mask, severity: Severity, factors: Floats
) -> Iterator[Finding]:
    if where.any():
        yield finding(
            "outlier",
            severity,
            f"rows that are up to {factors[where].max():.3g} times away from those of ops like"
            " theirs; measure them again, or look up how they came about",
            evidence.keys(where),
        )
