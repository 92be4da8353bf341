"""Rows of a table as flat records: what pandas gets, and the command line."""

from __future__ import annotations

from typing import Any

from lutra.tables.columns import names
from lutra.tables.measurement import Imported, Measurement, Row

_MEASURED = (*(name for name in names(Measurement) if name != "status"), "bound")
_IMPORTED = names(Imported)
FRAME_COLUMNS = (
    *("category", "key", "status", *_MEASURED, "nodes", "delegated_nodes", "failure"),
    *(name for name in _IMPORTED if name not in _MEASURED),
    "filled_from",
)


def row_record(row: Row) -> dict[str, Any]:
    """A row as a flat record with `FRAME_COLUMNS`; None where it does not know a value."""
    record: dict[str, Any] = dict.fromkeys(FRAME_COLUMNS)
    record.update(category=row.category, key=row.key, status=row.status, flags="")
    if row.nodes is not None:
        record["nodes"], record["delegated_nodes"] = row.nodes
    if row.measurement is not None:
        record.update({name: getattr(row.measurement, name) for name in _MEASURED})
        record["flags"] = ",".join(row.measurement.flags)
    if row.imported is not None:
        record.update({name: getattr(row.imported, name) for name in _IMPORTED})
    if row.status == "filled" and row.filled is not None:
        record["latency_ms"], record["filled_from"] = row.filled.latency_ms, row.filled.rows
        record["ci_low_ms"], record["ci_high_ms"] = row.filled.low_ms, row.filled.high_ms
    if row.failure is not None:
        record["failure"] = f"{row.failure.kind}: {row.failure.message}"
    return record
