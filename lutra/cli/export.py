"""lutra export: a found subnet as a model file."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json
from lutra.cli.output import line, note, print_json


@click.command("export")
@click.argument("result", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The model file.")
@click.option("--format", "format_name", help="onnx, tflite or torch; by default what -o ends in.")
@click.option("--precision", help="fp32, fp16 or int8; by default the table's.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the weights."
)
@as_json
def command(
    result: Path,
    output: Path,
    format_name: str | None,
    precision: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Write a search result's best subnet (or an architecture's JSON) as a model file.

    It is the file that `lutra verify` times. The weights are seeded random numbers: structure and
    latency are right, accuracy is not.
    """
    metadata = lutra.export(result, output, format=format_name, precision=precision, seed=seed)
    if as_json:
        print_json(metadata)
        return
    line(str(output))
    note(f"{metadata['format']}, {metadata['precision']}; weights: {metadata['weights']}")
