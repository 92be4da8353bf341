"""lutra export: a found subnet as a model file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, FOLDER, WEIGHTS, as_json, fine_tune_option, torch_threads_option
from lutra.cli.output import line, note, note_next, print_json, progress, with_eta


@click.command("export")
@click.argument("result", type=WEIGHTS)
@click.option("-o", "--output", type=FILE, required=True, help="The model file.")
@click.option("--format", "format_name", help="onnx, tflite or torch; by default what -o ends in.")
@click.option("--precision", help="fp32, fp16 or int8; by default the table's.")
@click.option("--space", "space_name", help="Of an architecture whose file does not say.")
@click.option("--checkpoint", type=WEIGHTS, help="Its weights: a supernet's, or its own.")
@click.option("--data", type=FOLDER, help="Training images: statistics, and int8's ranges.")
@click.option("--calibration-data", type=FOLDER, help="Other images for int8's ranges.")
@fine_tune_option
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of random weights, or of fine-tuning.",
)
@torch_threads_option
@as_json
def command(
    result: Path,
    output: Path,
    format_name: str | None,
    precision: str | None,
    space_name: str | None,
    checkpoint: Path | None,
    data: Path | None,
    calibration_data: Path | None,
    epochs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Write a search result's best subnet (or an architecture's JSON) as a model file.

    It is the file that `lutra verify` times. Its weights are a supernet's, with --checkpoint: named
    in the file, batch-norm statistics re-estimated and int8's ranges observed on the images of
    --data. Without, they are seeded random numbers: structure and latency are right, accuracy is
    not. RESULT may also be one network's weights, as `lutra fine-tune` writes them.
    """
    with progress("fine-tuning") as report:
        metadata = lutra.export(
            result,
            output,
            format=format_name,
            precision=precision,
            space=space_name,
            seed=seed,
            checkpoint=checkpoint,
            data=data,
            calibration_data=calibration_data,
            fine_tune_epochs=epochs,
            on_step=with_eta(report),
        )
    if as_json:
        print_json(metadata)
        return
    line(str(output))
    note(f"{metadata['format']}, {metadata['precision']}; weights: {metadata['weights']}")
    for name in ("fine_tuning", "statistics", "calibration"):
        if name in metadata:
            note(f"{name.replace('_', '-')}: {metadata[name]}")
    if checkpoint is not None and data is not None:
        words = ["lutra", "evaluate", str(output), "--data", str(data), "--split", "validation"]
        note_next(shlex.join(words))
