"""lutra pack: a model file made smaller."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json
from lutra.cli.output import line, note, print_json


@click.command("pack")
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The pack (.lpk).")
@as_json
def command(model: Path, output: Path, as_json: bool) -> None:
    """Pack a .tflite or .onnx file for a download or for flash.

    Weights are coded by Huffman's codes; those that `lutra cluster` made take the fewest bits.
    `lutra unpack` writes the same file again, bit for bit: it loads and runs as before.
    """
    packed = lutra.pack(model, output)
    if as_json:
        print_json(packed.to_json())
        return
    line(str(output))
    note(f"{packed.model_bytes:,} bytes as {packed.pack_bytes:,}: {packed.ratio:.2f} times smaller")
