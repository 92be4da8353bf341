"""Numbers of another unit: seconds or microseconds that stand as milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lutra.inspection.evidence import Evidence
from lutra.inspection.finding import Finding, finding

# Multiply-accumulates per second. A phone's core does 1e10, a small board's 1e8, a GPU with one
# image 1e11; no device at all does more or less than the outer ones.
_LEAST, _MOST = 2e7, 1e12
_LEAST_OF_ANY, _MOST_OF_ANY = 1e5, 1e15
_LARGE = 1e6  # MACs: below, a pace tells of launches and timers


def unit(evidence: Evidence) -> Iterator[Finding]:
    """Catches seconds, which published tables have, under a heading of ms.

    By the pace of rows of a million MACs and more. A whole table is judged by its median where
    others measured it; single rows by what no device at all does.
    """
    large = (evidence.macs >= _LARGE) & (evidence.latencies_ms > 0)
    if not large.any():
        return
    paces = np.zeros(len(large))
    paces[large] = evidence.macs[large] / evidence.latencies_ms[large] * 1e3
    median = float(np.median(paces[large]))
    least, most = (_LEAST, _MOST) if evidence.target.is_imported else (_LEAST_OF_ANY, _MOST_OF_ANY)
    if not least <= median <= most:
        name, factor = ("seconds", "1000") if median > most else ("ns or us", "0.001")
        yield finding(
            "unit",
            "error",
            f"its ops would do {median:.2g} multiply-accumulates a second, so its numbers are not"
            f" ms; where they are {name}, multiply them by {factor}",
            evidence.keys(large),
        )
        return
    impossible = large & ((paces < _LEAST_OF_ANY) | (paces > _MOST_OF_ANY))
    if impossible.any():
        yield finding(
            "unit",
            "error",
            f"rows that no device can take: they would do {paces[impossible].min():.2g} to"
            f" {paces[impossible].max():.2g} multiply-accumulates a second; look up their unit",
            evidence.keys(impossible),
        )


def zero(evidence: Evidence) -> Iterator[Finding]:
    """Catches ops that take nothing: one published table has 88 that are zero or negative.

    (A pooling that its format counts within another row has 0 by right. Negative numbers come into
    no table of lutra's: an import refuses them, and a file with one is damaged.)
    """
    parts = np.array([value.is_part for value in evidence.values], dtype=np.bool_)
    nothing = (evidence.latencies_ms <= 0) & ~parts
    if nothing.any():
        yield finding(
            "zero",
            "error",
            "rows of 0 ms: they were not measured; measure them, or leave them out",
            evidence.keys(nothing),
        )
