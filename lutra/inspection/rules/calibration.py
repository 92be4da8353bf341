"""Calibrations and validations of other numbers than the table's."""

from __future__ import annotations

from collections.abc import Iterator

from lutra.inspection.evidence import Evidence
from lutra.inspection.finding import Finding, finding


def stale(evidence: Evidence) -> Iterator[Finding]:
    """Catches errors that are stated of a table of before: its ops were measured again since."""
    for words in evidence.stale:
        yield finding(
            "stale",
            "warning",
            f"ops were measured after the {words}; `lutra calibrate`, then `lutra validate`",
        )
