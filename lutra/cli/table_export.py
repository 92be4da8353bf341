"""lutra table export: a table in formats of others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json, network_option, space_option, table_argument
from lutra.cli.output import line, note, print_json


@click.command("export")
@table_argument
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@click.option(
    "--format", help="csv, jsonl, parquet, yaml or json.  [default: what the file's name ends with]"
)
@space_option
@click.option("--resolution", type=int, help="OFA's: of which, where the table has several.")
@click.option("--dialect", help="OFA's: nsganetv2, or ofa-mbv3 and ofa-proxyless, by the space.")
@click.option("--plain-sum", is_flag=True, help="OFA's: what ops take alone, uncalibrated.")
@network_option
@as_json
def export(
    table: Path,
    output: Path,
    format: str | None,
    space_name: str | None,
    resolution: int | None,
    dialect: str | None,
    plain_sum: bool,
    as_json: bool,
) -> None:
    """Write every row as CSV, JSON lines or Parquet, or a latency table of OFA's."""
    summary = lutra.export_table(
        table,
        output,
        format=format,
        space=space_name,
        resolution=resolution,
        dialect=dialect,
        plain_sum=plain_sum,
    )
    if as_json:
        print_json({"file": str(output), **asdict(summary)})
        return
    line(str(output))
    note(f"{summary.rows} rows")
    if summary.remark:
        note(summary.remark)
    if summary.with_calibration:
        note("the sum over a network's rows is what `lutra predict` says: the calibration is in it")
    elif summary.with_calibration is False:
        note(
            "each number is what an op takes alone: the table's calibration is not in it, so sums"
            " are not what `lutra predict` says; an export to .yaml without --plain-sum has it"
        )
