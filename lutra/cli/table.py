"""lutra table: look into a table, or make one of the tables of others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import lutra
from lutra.cli import (
    table_diff,
    table_export,
    table_from_networks,
    table_lint,
    table_merge,
    table_show,
)
from lutra.cli.options import FILE, as_json, device_name_option, runtime_name_option
from lutra.cli.output import line, note, print_json


@click.group("table")
def command() -> None:
    """Show what a table holds, check, compare and merge tables, exchange them with others."""


command.add_command(table_show.command)
command.add_command(table_lint.lint)
command.add_command(table_diff.command)
command.add_command(table_merge.command)
command.add_command(table_export.export)
command.add_command(table_from_networks.command)


@command.command("import")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--space", "space_name", required=True, help="The space that the rows are of.")
@click.option("-o", "--output", type=FILE, required=True, help="The new table.")
@device_name_option
@runtime_name_option
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
        note(f"{output}: {table_lint.finding_text(each)}")
