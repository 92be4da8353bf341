"""lutra table: look into a table, or make one of the tables of others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import lutra
from lutra.cli.options import FILE, as_json, table_argument
from lutra.cli.output import line, note, print_json, print_table
from lutra.cli.table_export import export
from lutra.cli.table_lint import finding_text, lint


@click.group("table")
def command() -> None:
    """Show what a table holds, check it, import one of another format, or export it."""


command.add_command(export)
command.add_command(lint)

_WHERE_KNOWN = {
    "flags": ["flags"],
    "clock_mhz": ["clock_mhz"],
    "device_ms": ["device_ms", "bound"],
    "nodes": ["nodes", "delegated_nodes"],
    "failure": ["failure"],
}
_MEASURED = ["key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status"]
_IMPORTED = ["key", "resolution", "latency_ms", "runs", "std_ms", "file"]


@command.command("show")
@table_argument
@click.option(
    "--category",
    type=click.Choice(["op", "network", "reference", "all"]),
    help="Which rows.  [default: op, or network where the table holds no ops]",
)
@as_json
def show(table: Path, category: str | None, as_json: bool) -> None:
    """Every row with its interval; failures have a message and no number, imported rows none."""
    from lutra.tables.documents import CALIBRATION, VALIDATION

    with lutra.LatencyTable.open(table) as opened:
        records = _records(opened, category)
        target = opened.target
        documents = {name: opened.meta(name) for name in (CALIBRATION, VALIDATION)}
    if as_json:
        print_json({"target": target.to_json(), **documents, "rows": records})
        return
    note(target.summary())
    columns = [*(_IMPORTED if target.is_imported else _MEASURED)]
    for known, shown in _WHERE_KNOWN.items():
        if any(record[known] not in (None, "") for record in records):
            columns += shown
    rows = [[record[name] for name in columns] for record in records]
    print_table(columns, rows)
    if not records:
        note(f"{table} holds no rows{f' of the category {category}' if category else ''} yet")


@command.command("import")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--space", "space_name", required=True, help="The space that the rows are of.")
@click.option("-o", "--output", type=FILE, required=True, help="The new table.")
@click.option("--device-name", help="The device that was measured, as you know it.")
@click.option("--runtime-name", help="The runtime that it ran.")
@as_json
def import_(
    files: tuple[Path, ...],
    space_name: str,
    output: Path,
    device_name: str | None,
    runtime_name: str | None,
    as_json: bool,
) -> None:
    """Make a table of others': OFA's (YAML, JSON), or columns in CSV, JSON lines or Parquet."""
    summary = lutra.import_table(
        files, space_name, output, device_name=device_name, runtime_name=runtime_name
    )
    findings = lutra.lint_table(output)
    if as_json:
        found = [asdict(each) for each in findings]
        print_json({"table": str(output), **asdict(summary), "findings": found})
        return
    line(str(output))
    resolutions = ", ".join(map(str, summary.resolutions))
    note(f"{summary.ops} rows of {summary.space} at {resolutions}")
    for name, count in summary.left_out.items():
        if count:
            note(f"{name}: rows of no network of {summary.space}, left out: {count}")
    not_known = {"device": device_name, "runtime": runtime_name, "precision, threads, batch": None}
    note(f"not known: {', '.join(name for name, said in not_known.items() if not said)}")
    note("the files do not say how sure their numbers are: predictions have no interval")
    for each in findings:
        note(f"{output}: {finding_text(each)}")


def _records(table: lutra.LatencyTable, category: str | None) -> list[dict[str, Any]]:
    """The rows of a category; of none in particular the ops, or in a table of models those."""
    from lutra.tables.frame import row_record

    rows = table.rows()
    if category is None:
        category = "op" if any(row.category == "op" for row in rows) else "network"
    return [row_record(row) for row in rows if category in (row.category, "all")]
