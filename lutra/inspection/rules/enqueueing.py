"""Timings of handing over work instead of doing it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lutra.inspection.evidence import Evidence, Floats, Neighbours
from lutra.inspection.finding import Finding, finding

_LEAST_SPAN = 3.0  # of MACs: ops of one resolution span four
_MOST_SLOPE = 0.1  # of ms with MACs, both as logarithms; sound tables have 0.6 to 1


def enqueueing(evidence: Evidence) -> Iterator[Finding]:
    """Catches GPUs timed without waiting for them: once-for-all's own measuring did (issue #47).

    Latency then goes with the number of kernels and not with the work. What lutra measured waited
    for the device: there ops that take the same wait for their host, which is no fault.
    """
    if not evidence.target.is_imported:
        return
    for kind in evidence.kinds:
        macs = np.log(evidence.macs[kind.where])
        low, high = np.percentile(macs, [2, 98])
        if high - low < np.log(_LEAST_SPAN) or abs(_slope(kind, macs)) >= _MOST_SLOPE:
            continue
        where = np.zeros(len(evidence.values), dtype=np.bool_)
        where[kind.where] = True
        yield finding(
            "enqueueing",
            "error",
            f"rows take the same at {np.exp(high - low):.0f} times the work: as if only handing it"
            " over was timed; wait for the device before the clock is read, or measure larger"
            " batches",
            evidence.keys(where),
        )


def _slope(kind: Neighbours, macs: Floats) -> float:
    """How latency goes with MACs among ops of as many kernels."""
    kernels = np.array([len(op.graph.nodes) for op in kind.ops])
    groups = kernels[:, None] == np.unique(kernels)
    design = np.column_stack([macs, groups])
    return float(np.linalg.lstsq(design, kind.logarithms, rcond=None)[0][0])
