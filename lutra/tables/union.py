"""One table's visits, failures and runs behind those of another: what a merge is made of."""

from __future__ import annotations

import sqlite3
from typing import Any

from lutra.tables.columns import insert


def append(connection: sqlite3.Connection, other: sqlite3.Connection) -> list[int]:
    """Append all that another table of the newest schema holds; the numbers of its runs here.

    Its runs, processes and rounds become later ones. Measurements are not summed up. A failure
    counts where neither table has a visit.
    """
    last = "coalesce(max(run), -1) + 1, coalesce(max(process), 0), coalesce(max(round), 0)"
    run, process, round_ = connection.execute(f"SELECT {last} FROM visits").fetchone()  # noqa: S608
    subjects = {}
    for row in _all(other, "subjects"):
        subjects[row["id"]] = _subject(connection, row)
    runs = set()
    for row in _all(other, "visits"):
        del row["id"]
        row["subject"] = subjects[row["subject"]]
        row["run"], row["process"], row["round"] = (
            row["run"] + run,
            row["process"] + process,
            row["round"] + round_,
        )
        runs.add(row["run"])
        insert(connection, "visits", row)
    for row in _all(other, "failures"):
        insert(connection, "failures", {**row, "subject": subjects[row["subject"]]}, replace=True)
    connection.execute("DELETE FROM failures WHERE subject IN (SELECT subject FROM visits)")
    for row in _all(other, "runs"):
        del row["id"]
        insert(connection, "runs", row)
    return sorted(runs)


def _all(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    order = "subject" if table == "failures" else "id"
    found = connection.execute(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 (our own)
    return [dict(row) for row in found.fetchall()]


def _subject(connection: sqlite3.Connection, row: dict[str, Any]) -> int:
    """The number of the same workload in the table, which may be new there."""
    values = {name: value for name, value in row.items() if name != "id"}
    connection.execute(
        "INSERT INTO subjects (category, key, role, nodes, delegated_nodes)"
        " VALUES (:category, :key, :role, :nodes, :delegated_nodes) ON CONFLICT DO NOTHING",
        values,
    )
    found = connection.execute(
        "SELECT id FROM subjects WHERE category = :category AND key = :key", values
    )
    return int(found.fetchone()[0])
