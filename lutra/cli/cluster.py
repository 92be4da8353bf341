"""lutra cluster: a network whose layers have few values."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

import lutra
from lutra.cli.options import (
    FILE,
    FOLDER,
    WEIGHTS,
    as_json,
    named_network,
    torch_threads_option,
    weights_option,
)
from lutra.cli.output import line, note, note_next, print_json, progress, with_eta


@click.command("cluster")
@click.argument("result", type=WEIGHTS, required=False)
@weights_option
@click.option("--data", type=FOLDER, required=True, help="Folder of images with labels.")
@click.option("-o", "--output", type=FILE, required=True, help="The network file (.pth).")
@click.option("--values", type=int, default=15, show_default=True, help="Values per layer, 2..256.")
@click.option(
    "--bit-price",
    type=float,
    default=0.2,
    show_default=True,
    help="Squared error, of a layer's variance, that a bit per weight is worth.",
)
@click.option(
    "--epochs", type=click.IntRange(0), default=1, show_default=True, help="Of training the values."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@torch_threads_option
@as_json
def command(
    result: Path | None,
    checkpoint: Path,
    data: Path,
    output: Path,
    values: int,
    bit_price: float,
    epochs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Have each layer's weights share few values, so that its int8 file packs small.

    RESULT is a search result or an architecture's JSON: which of a supernet's networks. A network
    file says it itself.
    """
    with progress("cluster") as report:
        found = lutra.cluster(
            checkpoint,
            data,
            output,
            architecture=named_network(result),
            values=values,
            bit_price=bit_price,
            epochs=epochs,
            seed=seed,
            on_step=with_eta(report),
        )
    if as_json:
        print_json(found.to_json())
        return
    line(str(output))
    note(
        f"{found.bits_per_weight:.2f} bits per weight; validation top-1 {found.top1:.2f} %, before"
        f" {found.top1_before:.2f} %"
    )
    if result is not None:
        words = ["lutra", "export", str(result), "--checkpoint", str(output), "--data", str(data)]
        words += ["--precision", "int8", "-o", str(output.with_suffix(".tflite"))]
        note_next(shlex.join(words))
