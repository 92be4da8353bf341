"""lutra table merge: several tables of one target as one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json, network_option
from lutra.cli.output import line, note, print_json


@click.command("merge")
@click.argument("tables", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="The new table.")
@network_option
@as_json
def command(tables: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Make one table of several of one target: other spaces, resolutions, days.

    It speaks of the first one's state; the others are brought to it by what both measured.
    """
    summary = lutra.merge_tables(tables, output)
    if as_json:
        print_json({"table": str(output), **asdict(summary)})
        return
    line(str(output))
    note(f"{summary.ops} ops and {summary.networks} networks")
    for run in summary.runs:
        note(
            f"{run.table}: {run.category}s took {run.slower_percent:+.1f} % against {tables[0]}, by"
            f" {run.anchors} that both measured, within {run.spread_percent:.1f} % of each other"
        )
    for space in summary.calibrated:
        note(f"calibrated anew for {space}, on the networks of all tables")
    for name in summary.dropped:
        note(f"left out: {name}, which is of that table's ops alone")
