"""lutra table: look into a table."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import as_json, table_argument
from lutra.cli.output import note, print_json, print_table


@click.group("table")
def command() -> None:
    """Show what a table holds."""


_WHERE_KNOWN = {
    "clock_mhz": ["clock_mhz"],
    "device_ms": ["device_ms", "bound"],
    "nodes": ["nodes", "delegated_nodes"],
}


@command.command("show")
@table_argument
@click.option(
    "--category",
    type=click.Choice(["op", "network", "reference", "all"]),
    default="op",
    show_default=True,
)
@as_json
def show(table: Path, category: str, as_json: bool) -> None:
    """Every row with its interval; failures have a message and no number."""
    from lutra.tables.documents import CALIBRATION, VALIDATION
    from lutra.tables.frame import row_record
    from lutra.tables.measurement import Category

    wanted: Category | None = None if category == "all" else category  # type: ignore[assignment]
    with lutra.LatencyTable.open(table) as opened:
        records = [row_record(row) for row in opened.rows(wanted)]
        target = opened.target
        documents = {name: opened.meta(name) for name in (CALIBRATION, VALIDATION)}
    if as_json:
        print_json({"target": target.to_json(), **documents, "rows": records})
        return
    note(target.summary())
    columns = ["key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status", "flags"]
    for known, shown in _WHERE_KNOWN.items():
        if any(record[known] is not None for record in records):
            columns += shown
    rows = [[*(record[name] for name in columns), record["failure"] or ""] for record in records]
    print_table([*columns, "failure"], rows)
