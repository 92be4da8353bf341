"""lutra accuracy sample: top-1 of random subnets of a supernet."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, FOLDER, as_json
from lutra.cli.output import line, note, note_next, print_json, progress
from lutra.errors import UsageError

checkpoint_argument = click.argument("checkpoint", type=FILE)
data_option = click.option(
    "--data", type=FOLDER, required=True, help="Folder with the labelled images."
)
images_option = click.option(
    "--images", type=click.IntRange(1), help="Validation images to use; by default all."
)
calibration_option = click.option(
    "--calibration-images",
    type=click.IntRange(1, 1_000_000),
    default=2000,
    show_default=True,
    help="Training images that batch normalisations are re-estimated on.",
)


@click.command("sample")
@checkpoint_argument
@data_option
@click.option("-o", "--output", type=FILE, required=True, help="The file of measured subnets.")
@click.option(
    "--count",
    type=click.IntRange(2, 10_000),
    default=300,
    show_default=True,
    help="Subnets to measure, the smallest and the largest among them.",
)
@click.option("--table", type=FILE, help="Spread them over its latency; by default over MACs.")
@click.option("--resolutions", help="Only these, such as 128:224:32; by default all.")
@images_option
@calibration_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--space", "space_name", help="The supernet's space, where the file names none.")
@as_json
def sample(
    checkpoint: Path,
    data: Path,
    output: Path,
    count: int,
    table: Path | None,
    resolutions: str | None,
    images: int | None,
    calibration_images: int,
    seed: int,
    space_name: str | None,
    as_json: bool,
) -> None:
    """Measure random subnets of a supernet; interrupted, the same command goes on.

    Each is taken out of the supernet, its batch normalisations are re-estimated, and it is
    evaluated on the validation images.
    """
    from lutra.cli.quantities import parse_resolutions
    from lutra.supernets.accuracy.inherited import InheritedAccuracy
    from lutra.supernets.accuracy.sampling import sample_accuracy

    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    accuracy = InheritedAccuracy.read(
        checkpoint, data, space=space_name, images=images, calibration_images=calibration_images
    )
    known = lutra.EfficiencyPredictor(table, accuracy.space).resolutions if table else None
    chosen = (
        None
        if resolutions is None
        else parse_resolutions(resolutions, known or accuracy.space.resolutions)
    )
    with progress("accuracy") as report:
        sampled = sample_accuracy(
            accuracy,
            output,
            count=count,
            table=table,
            resolutions=chosen,
            seed=seed,
            on_progress=report,
        )
    if as_json:
        print_json({"output": str(output), **sampled._asdict()})
        return
    line(str(output))
    if sampled.subnets < count:
        note(f"there are but {sampled.subnets} subnets")
    note(
        f"{sampled.subnets} subnets on {accuracy.source.images} validation images,"
        f" {sampled.measured} of them measured now"
    )
    note_next(shlex.join(["lutra", "accuracy", "fit", str(output), "-o", "accuracy.json"]))
