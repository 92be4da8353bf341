"""lutra fine-tune: one network trained further, into a file of its own."""

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
from lutra.cli.output import line, note, note_next, print_json, print_table, progress, with_eta


@click.command("fine-tune")
@click.argument("result", type=WEIGHTS, required=False)
@weights_option
@click.option("--data", type=FOLDER, required=True, help="Folder of images with labels.")
@click.option("-o", "--output", type=FILE, required=True, help="The network's file (.pth).")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--learning-rate", type=float, default=0.01, show_default=True, help="Of the start.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="largest|FILE",
    help="Learn from it too; several: from their mean.",
)
@click.option("--temperature", type=float, default=4.0, show_default=True, help="Of soft labels.")
@click.option(
    "--soft-weight", type=float, default=0.5, show_default=True, help="Of soft labels, 0 to 1."
)
@click.option("--fsp", is_flag=True, help="Learn how the teacher's stages flow as well.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@torch_threads_option
@as_json
def command(
    result: Path | None,
    checkpoint: Path,
    data: Path,
    output: Path,
    epochs: int,
    learning_rate: float,
    teachers: tuple[str, ...],
    temperature: float,
    soft_weight: float,
    fsp: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Train a search result's best subnet (or an architecture's JSON) further, by itself.

    RESULT is not needed where --checkpoint holds one network. With teachers the loss has their
    probabilities too (soft labels), and with --fsp their FSP matrices. The largest network of the
    supernet is `--teacher largest`; a supernet's FILE stands for its largest, too.
    """
    with progress("fine-tuning") as report:
        tuned = lutra.fine_tune_network(
            checkpoint,
            data,
            output,
            network=named_network(result),
            epochs=epochs,
            learning_rate=learning_rate,
            teachers=teachers,
            temperature=temperature,
            soft_weight=soft_weight,
            fsp=fsp,
            seed=seed,
            on_step=with_eta(report),
        )
    if as_json:
        print_json(tuned.to_json())
        return
    rows = []
    for when, accuracy in (("before", tuned.before), ("after", tuned.after)):
        low, high = accuracy.interval_percent
        rows.append([when, f"{accuracy.percent:.2f}", f"{low:.2f} to {high:.2f}"])
    print_table(["", "validation top-1 %", "95 % interval"], rows)
    line(str(output))
    note(f"statistics: of {tuned.about['statistics_images']} training images of {data}")
    note_next(shlex.join(["lutra", "export", str(output), "-o", str(output.with_suffix(".onnx"))]))
