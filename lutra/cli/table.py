"""lutra table: look into a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import lutra
from lutra.cli.options import as_json, table_argument
from lutra.cli.output import note, print_json, print_table


@click.group("table")
def command() -> None:
    """Show what a table holds."""


_WHERE_KNOWN = {
    "flags": ["flags"],
    "clock_mhz": ["clock_mhz"],
    "device_ms": ["device_ms", "bound"],
    "nodes": ["nodes", "delegated_nodes"],
    "failure": ["failure"],
}


@command.command("show")
@table_argument
@click.option(
    "--category",
    type=click.Choice(["op", "network", "reference", "all"]),
    help="Which rows.  [default: op, or network where the table holds no ops]",
)
@as_json
def show(table: Path, category: str | None, as_json: bool) -> None:
    """Every row with its interval; failures have a message and no number."""
    from lutra.tables.documents import CALIBRATION, VALIDATION

    with lutra.LatencyTable.open(table) as opened:
        records = _records(opened, category)
        target = opened.target
        documents = {name: opened.meta(name) for name in (CALIBRATION, VALIDATION)}
    if as_json:
        print_json({"target": target.to_json(), **documents, "rows": records})
        return
    note(target.summary())
    columns = ["key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status"]
    for known, shown in _WHERE_KNOWN.items():
        if any(record[known] not in (None, "") for record in records):
            columns += shown
    rows = [[record[name] for name in columns] for record in records]
    print_table(columns, rows)
    if not records:
        note(f"{table} holds no rows{f' of the category {category}' if category else ''} yet")


def _records(table: lutra.LatencyTable, category: str | None) -> list[dict[str, Any]]:
    """The rows of a category; of none in particular the ops, or in a table of models those."""
    from lutra.tables.frame import row_record

    rows = table.rows()
    if category is None:
        category = "op" if any(row.category == "op" for row in rows) else "network"
    return [row_record(row) for row in rows if category in (row.category, "all")]
