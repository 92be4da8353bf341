"""What is asked of a table's rows and visits, and the records that the answers stand for."""

from __future__ import annotations

import sqlite3

from lutra.tables.columns import from_columns, selected
from lutra.tables.measurement import Failure, Filled, Imported, Measurement, Row, Visit

VISITS = f"""
    SELECT s.key, {selected(Visit, "v")} FROM visits v JOIN subjects s ON s.id = v.subject
"""  # noqa: S608 (names of our own fields)
STEADY = """
    SELECT s.key, v.run, v.process, v.round, v.low_ms, v.flags IN ('', :replaced)
    FROM visits v JOIN subjects s ON s.id = v.subject WHERE s.category = :category
        AND (:but IS NULL OR s.role <> :but) ORDER BY v.id
"""
ROWS = f"""
    SELECT s.category, s.key, s.nodes, s.delegated_nodes,
        {selected(Measurement, "m", "measured_")}, {selected(Failure, "f", "failed_")},
        {selected(Imported, "i", "imported_")}, {selected(Filled, "e", "filled_")}
    FROM subjects s
    LEFT JOIN measurements m ON m.subject = s.id LEFT JOIN failures f ON f.subject = s.id
    LEFT JOIN imported i ON i.subject = s.id LEFT JOIN filled e ON e.subject = s.id
    WHERE (:category IS NULL OR s.category = :category) AND (:role IS NULL OR s.role = :role)
        AND (m.latency_ms IS NOT NULL OR f.kind IS NOT NULL OR i.latency_ms IS NOT NULL
            OR e.latency_ms IS NOT NULL)
    ORDER BY s.id, i.resolution
"""  # noqa: S608 (names of our own fields)


def row_of(values: sqlite3.Row) -> Row:
    """The row that a line of `ROWS` holds."""
    measurement = failure = None
    if values["measured_latency_ms"] is not None:
        measurement = from_columns(Measurement, values, "measured_")
    if values["failed_kind"] is not None and (
        measurement is None or measurement.status == "partial"
    ):
        failure = from_columns(Failure, values, "failed_")
    imported = None
    if values["imported_latency_ms"] is not None:
        imported = from_columns(Imported, values, "imported_")
    filled = None
    if values["filled_latency_ms"] is not None:
        filled = from_columns(Filled, values, "filled_")
    nodes = (values["nodes"], values["delegated_nodes"])
    return Row(
        values["category"],
        values["key"],
        measurement,
        failure,
        None if values["nodes"] is None else nodes,
        imported,
        filled,
    )
