"""lutra evaluate: how often a model file is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import FILE, FOLDER, as_json
from lutra.cli.output import line, note, print_json, progress, with_eta

if TYPE_CHECKING:
    from lutra.supernets.data.base import Split


@click.command("evaluate")
@click.argument("model", type=FILE)
@click.option("--data", type=FOLDER, required=True, help="A folder of labelled images.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
    help="Which of its images.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many images.")
@as_json
def command(model: Path, data: Path, split: Split, limit: int | None, as_json: bool) -> None:
    """Top-1 accuracy of a model file (.onnx, .tflite, .torch), run by its own runtime.

    MODEL is one that `lutra export` wrote, any classifier of images prepared in the same way, or
    one network's weights, as `lutra fine-tune` writes them (.pth).
    """
    with progress("evaluate") as report:
        found = lutra.evaluate(model, data, split=split, limit=limit, on_step=with_eta(report))
    if as_json:
        print_json(found.to_json())
        return
    low, high = found.accuracy.interval_percent
    line(f"top-1 {found.percent:.2f} % ({low:.2f} to {high:.2f} % at 95 %)")
    note(
        f"{found.accuracy.correct} of {found.accuracy.count} {found.split} images of {found.data}"
        f" at {found.resolution}"
    )
