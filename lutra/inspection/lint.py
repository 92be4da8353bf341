"""Whether a table is sound: the faults that published tables had, looked for in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lutra.inspection.evidence import Evidence, gather
from lutra.inspection.finding import Finding, finding
from lutra.inspection.rules.batch import batch
from lutra.inspection.rules.calibration import stale
from lutra.inspection.rules.copies import copied, repeated
from lutra.inspection.rules.enqueueing import enqueueing
from lutra.inspection.rules.interpolation import interpolated
from lutra.inspection.rules.outliers import outlier
from lutra.inspection.rules.thin import failed, foreign, thin
from lutra.inspection.rules.units import unit, zero
from lutra.tables import LatencyTable, opened_table
from lutra.tables.documents import CALIBRATION, VALIDATION, is_stale, read_document
from lutra.tables.profiled import read_profiled

RULES: Sequence[Callable[[Evidence], Iterator[Finding]]] = (
    unit,
    zero,
    outlier,
    batch,
    enqueueing,
    repeated,
    interpolated,
    stale,
    thin,
    failed,
    foreign,
)


def lint_table(
    table: LatencyTable | str | Path, against: LatencyTable | str | Path | None = None
) -> tuple[Finding, ...]:
    """What is wrong with a table's ops, errors first; nothing for a sound one.

    ``against`` is a table of another device, of which none of the rows may be copies. A finding's
    ``severity`` is ``error`` for what cannot be right, ``warning`` for what is worth a look. Raises
    `TableError` for what is no table.

    >>> [finding.rule for finding in lint_table("cpu.lut") if finding.severity == "error"]
    []
    """
    evidence = _evidence(table)
    found = [each for rule in RULES for each in rule(evidence)]
    if not evidence.values:
        words = "it holds no latency of an op, and lint looks at those alone"
        found.append(finding("empty", "warning", words))
    if against is not None:
        found += copied(evidence, _evidence(against), _name(against))
    return tuple(sorted(found, key=lambda each: each.severity))


def _evidence(table: LatencyTable | str | Path) -> Evidence:
    with opened_table(table) as opened:
        return gather(opened, [*_stale_documents(opened)])


def _stale_documents(table: LatencyTable) -> Iterator[str]:
    """The documents that speak of ops of before: 'calibration of ofa-mbv3-w1.0'."""
    latencies = table.op_latencies()
    for space in read_profiled(table).spaces:
        for name in (CALIBRATION, VALIDATION):
            document = read_document(table, name, space)
            if document is not None and is_stale(document, latencies):
                yield f"{name} of {space}"


def _name(table: LatencyTable | str | Path) -> str:
    return str(table.path if isinstance(table, LatencyTable) else table)
