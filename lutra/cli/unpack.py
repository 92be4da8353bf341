"""lutra unpack: the model file of a pack."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json
from lutra.cli.output import line, note, print_json


@click.command("unpack")
@click.argument("pack", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The model file.")
@as_json
def command(pack: Path, output: Path, as_json: bool) -> None:
    """Write the model file that `lutra pack` packed, the very same bytes."""
    unpacked = lutra.unpack(pack, output)
    if as_json:
        print_json(unpacked.to_json())
        return
    line(str(output))
    note(f"{unpacked.model_bytes:,} bytes, as they were packed")
