"""lutra table from-networks: a table of whole networks that were timed elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json, device_name_option, network_option, runtime_name_option
from lutra.cli.output import line, note, note_next, print_json


@click.command("from-networks")
@click.argument("file", type=FILE)
@click.option("--space", "space_name", required=True, help="The space that the networks are of.")
@click.option("-o", "--output", type=FILE, required=True, help="The new table.")
@device_name_option
@runtime_name_option
@network_option
@as_json
def command(
    file: Path,
    space_name: str,
    output: Path,
    device_name: str | None,
    runtime_name: str | None,
    as_json: bool,
) -> None:
    """Solve a CSV file of whole networks (architecture, latency_ms) for what their ops take."""
    summary = lutra.table_from_networks(
        file, space_name, output, device_name=device_name, runtime_name=runtime_name
    )
    if as_json:
        print_json({"table": str(output), **asdict(summary)})
        return
    line(str(output))
    resolutions = ", ".join(map(str, summary.resolutions))
    note(f"{summary.ops} ops of {summary.space} at {resolutions} from {summary.networks} networks")
    note(
        f"the others predict each network within {summary.cv_mape_percent:.1f} % on average, and"
        f" 95 % of them within {summary.interval_percent:.1f} %"
    )
    note_next(f"lutra search {output} --max-latency ...ms")
