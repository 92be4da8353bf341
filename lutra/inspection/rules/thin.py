"""Rows that rest on too little."""

from __future__ import annotations

from collections.abc import Iterator

from lutra.inspection.evidence import Evidence
from lutra.inspection.finding import Finding, finding
from lutra.tables import Row

_WIDE = 0.1  # half the interval, relative to the latency
_FEW_RUNS = 10
_SCATTERED = 0.5  # standard deviation, relative to the latency


def thin(evidence: Evidence) -> Iterator[Finding]:
    """Catches rows of few runs or that scatter: a mean alone does not tell."""
    keys = [row.key for row in evidence.rows if _is_thin(row)]
    if keys:
        yield finding(
            "thin",
            "warning",
            f"rows of too few runs or that repeat badly (beyond {_WIDE:.0%}); measure them again"
            " on a quieter machine, with `lutra profile --again`",
            keys,
        )


def failed(evidence: Evidence) -> Iterator[Finding]:
    """Catches ops without a number, which no network that has them can be predicted with."""
    keys = [row.key for row in evidence.rows if row.status == "failed"]
    if keys:
        yield finding(
            "failed",
            "warning",
            "ops that could not be measured: networks with them have no prediction; `lutra table"
            " show` says why, `lutra profile` tries again",
            keys,
        )


def foreign(evidence: Evidence) -> Iterator[Finding]:
    """Catches keys that this version of lutra has no op for: nothing looks them up."""
    if evidence.foreign:
        yield finding(
            "foreign",
            "warning",
            "keys that stand for no op of this version of lutra, so nothing uses them; a newer"
            " version or a package that is not installed may have written them",
            evidence.foreign,
        )


def _is_thin(row: Row) -> bool:
    if row.imported is not None:
        runs, std_ms = row.imported.runs, row.imported.std_ms
        few = runs is not None and runs < _FEW_RUNS
        return few or (std_ms is not None and std_ms > _SCATTERED * row.imported.latency_ms)
    measured = row.measurement
    return measured is not None and (measured.status == "partial" or measured.half_width > _WIDE)
