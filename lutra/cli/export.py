"""lutra export: a found subnet as a model file."""

from __future__ import annotations

from pathlib import Path

import click

from lutra.cli.options import FILE, as_json
from lutra.cli.output import note, print_json


@click.command("export")
@click.argument("result", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The model file.")
@click.option("--format", "format_name", default="onnx", show_default=True)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the weights."
)
@as_json
def command(result: Path, output: Path, format_name: str, seed: int, as_json: bool) -> None:
    """Write a search result's best subnet (or an architecture's JSON) as a model file.

    The weights are seeded random numbers: structure and latency are right, accuracy is not.
    """
    from lutra.search.export import export
    from lutra.search.result import read_architecture

    architecture = read_architecture(result)
    metadata = export(architecture, output, format_name=format_name, seed=seed)
    if as_json:
        print_json({"path": str(output), "format": format_name, **metadata})
        return
    click.echo(str(output))
    note(f"weights: {metadata['weights']}")
