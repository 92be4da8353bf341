"""lutra prune sense: what narrowing each layer alone costs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.accuracy_sample import calibration_option, data_option, images_option
from lutra.cli.options import FILE, WEIGHTS, as_json, named_network, plot_option, weights_option
from lutra.cli.output import line, note, note_next, print_json, progress
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.supernets.pruning.removal import Criterion

criterion_option = click.option(
    "--criterion",
    type=click.Choice(["independent", "greedy"]),
    default="independent",
    show_default=True,
    help="Norms over all weights of a filter, or over those of channels that are kept.",
)


@click.command("sense")
@click.argument("result", type=WEIGHTS, required=False)
@weights_option
@data_option
@click.option("-o", "--output", type=FILE, required=True, help="The file of curves.")
@images_option
@calibration_option
@criterion_option
@click.option(
    "--judges",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="Random narrower networks to measure, for how good predictions are.",
)
@plot_option
@as_json
def sense(
    result: Path | None,
    checkpoint: Path,
    data: Path,
    output: Path,
    images: int | None,
    calibration_images: int,
    criterion: Criterion,
    judges: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure top-1 with each layer alone narrowed; interrupted, the same command goes on.

    RESULT is a search's result, or an architecture's JSON: which network of a supernet. The file is
    an accuracy model of the network's narrower forms: `lutra search --accuracy`.
    """
    from lutra.predictors.accuracy.samples import read_samples
    from lutra.predictors.accuracy.sensitivities import SensitivityPredictor
    from lutra.spaces.graph_widths import GraphWidthSpace
    from lutra.supernets.pruning.sensing import sense as measure

    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    if plot is not None:
        from lutra.report.figures.picture import check_picture

        check_picture(plot)
    with progress("sense") as report:
        found = measure(
            checkpoint,
            data,
            output,
            network=named_network(result),
            images=images,
            calibration_images=calibration_images,
            criterion=criterion,
            judges=judges,
            on_progress=report,
        )
    samples = read_samples(output)
    quality = SensitivityPredictor.from_samples(samples, str(output)).quality
    if plot is not None:
        from lutra.report.figures.picture import write_picture
        from lutra.report.figures.sensitivity import sensitivity_curves

        write_picture(sensitivity_curves(samples, str(output)), plot)
    if as_json:
        print_json({"output": str(output), **found._asdict(), "quality": quality})
        return
    line(str(output))
    note(
        f"{found.points} points on {samples.source.images} validation images, {found.measured}"
        " networks measured now"
    )
    if quality:
        note(
            f"{quality['judged']:.0f} networks narrowed everywhere: predicted within"
            f" {quality['rmse_percent']:.2g} points (root mean square), Kendall's tau"
            f" {quality['kendall_tau']:.2f}"
        )
    # A module's space is known by its file alone.
    of_module = isinstance(lutra.get_space(found.space), GraphWidthSpace)
    known = ["--checkpoint", str(checkpoint)] if of_module else []
    words = ["lutra", "profile", "cpu", "--space", found.space, "--resolutions", f"{found.r}"]
    note_next(shlex.join([*words, *known, "--sample", "60s", "-o", "w.lut"]))
    words = ["lutra", "search", "w.lut", "--max-latency", "1ms", "--accuracy", str(output), *known]
    note(f"then {shlex.join(words)}")
