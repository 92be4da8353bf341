"""lutra search: the most accurate subnet under a budget."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.accuracy_sample import calibration_option, images_option
from lutra.cli.options import FILE, FOLDER, as_json, space_option, table_argument
from lutra.cli.output import note, note_next, print_json, print_table, progress
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import RESULT

if TYPE_CHECKING:
    from lutra.search.result import Candidate
    from lutra.spaces import Architecture
    from lutra.supernets.accuracy.inherited import InheritedAccuracy

_GROUP = 4  # blocks of a stage


@click.command("search")
@table_argument
@click.option("--max-latency", help="Budget with a unit, such as 20ms or 850us.")
@click.option("--max-flops", help="Budget of multiply-accumulates, such as 300M.")
@click.option("--algorithm", default="auto", show_default=True)
@click.option("--preset", help="Published settings: light-nas (annealing), ofa (evolution).")
@click.option("--accuracy", "accuracy_file", type=FILE, help="OFA's, or `lutra accuracy fit`'s.")
@click.option(
    "--resolutions", help="Search these only; by default all that table and accuracy know."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--evaluate",
    type=click.IntRange(1, 1000),
    help="Measure the accuracy of so many of the best, and order them by it.",
)
@click.option("--checkpoint", type=FILE, help="The supernet to evaluate with.")
@click.option("--data", type=FOLDER, help="Folder with the labelled images to evaluate on.")
@images_option
@calibration_option
@click.option("-o", "--output", type=FILE, help="Write the result here.")
@space_option
@as_json
def command(
    table: Path,
    max_latency: str | None,
    max_flops: str | None,
    algorithm: str,
    preset: str | None,
    accuracy_file: Path | None,
    resolutions: str | None,
    seed: int,
    evaluate: int | None,
    checkpoint: Path | None,
    data: Path | None,
    images: int | None,
    calibration_images: int,
    output: Path | None,
    space_name: str | None,
    as_json: bool,
) -> None:
    """The most accurate subnet within a budget of latency, MACs or both."""
    from lutra.cli.quantities import parse_count, parse_latency_ms, parse_resolutions
    from lutra.search.find import KEPT
    from lutra.tables.profiled import read_profiled

    latency_ms = parse_latency_ms(max_latency) if max_latency is not None else None
    macs = parse_count(max_flops) if max_flops is not None else None
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    if output is not None:
        check_output(output, RESULT)
    if seed < 0:
        raise UsageError(f"--seed {seed} must not be negative")
    _require_together(evaluate, checkpoint, data)
    with lutra.LatencyTable.open(table) as opened, progress("search") as report:
        predictor = lutra.EfficiencyPredictor(opened, space_name)
        space = predictor.space
        measuring = (  # before the search: what does not fit together is said at once
            _measuring(checkpoint, data, space.name, images, calibration_images)
            if checkpoint is not None and data is not None
            else None
        )
        device = read_profiled(opened).device or "DEVICE"
        result = lutra.find_networks(
            opened,
            max_latency_ms=latency_ms,
            max_macs=macs,
            space=space,
            accuracy=accuracy_file,
            algorithm=algorithm,
            preset=preset,
            seed=seed,
            hyperparameters=None if evaluate is None else {"keep": max(evaluate, KEPT)},
            resolutions=None
            if resolutions is None
            else parse_resolutions(resolutions, space.resolutions),
            on_step=lambda done, expected: report(done, expected, float("nan")),
        )
    if measuring is not None and evaluate is not None:
        result = _evaluated(result, measuring, evaluate)
    if output is not None:
        result.write(output)
    if as_json:
        print_json(result.to_json())
        return
    for text in result.notes:
        note(text)
    if not predictor.calibrated:
        note(f"the table is not calibrated: latencies are plain sums; run lutra calibrate {table}")
    genes = [name for name, _ in result.best.architecture.lists]
    measured = ["measured %", "low %", "high %"] if evaluate else []
    print_table(
        ["accuracy %", *measured, "predicted_ms", "low", "high", "macs M", "params M", "r", *genes],
        [
            [
                c.accuracy,
                *(_measured(c) if evaluate else []),
                c.predicted_ms,
                c.predicted_low_ms,
                c.predicted_high_ms,
                c.macs / 1e6,
                c.params / 1e6,
                c.architecture.r,
                *(genes_text(c.architecture, name) for name in genes),
            ]
            for c in result.candidates
        ],
    )
    note(f"{result.evaluations} architectures scored in {result.cpu_seconds:.1f} CPU s")
    if output is not None:
        note_next(shlex.join(["lutra", "verify", str(output), "--device", device]))


def _require_together(evaluate: int | None, checkpoint: Path | None, data: Path | None) -> None:
    """Raise `UsageError` where only some of what evaluating needs is given."""
    if evaluate is not None and (checkpoint is None or data is None):
        raise UsageError("--evaluate needs --checkpoint FILE and --data FOLDER")
    if evaluate is None and (checkpoint is not None or data is not None):
        raise UsageError("--checkpoint and --data go with --evaluate 10, say")


def _measuring(
    checkpoint: Path, data: Path, space: str, images: int | None, calibration_images: int
) -> InheritedAccuracy:
    from lutra.supernets.accuracy.inherited import InheritedAccuracy

    return InheritedAccuracy(
        checkpoint, data, space=space, images=images, calibration_images=calibration_images
    )


def _evaluated(
    result: lutra.SearchResult, measuring: InheritedAccuracy, count: int
) -> lutra.SearchResult:
    from lutra.search.evaluation import evaluate

    with progress("evaluate") as report:
        return evaluate(
            result,
            measuring,
            count=count,
            on_step=lambda done, expected: report(done, expected, float("nan")),
        )


def _measured(candidate: Candidate) -> list[float | None]:
    """What was measured of a candidate's accuracy."""
    found = candidate.evaluated
    if found is None:
        return [None, None, None]
    return [found.measured_accuracy, found.accuracy_low, found.accuracy_high]


def genes_text(architecture: Architecture, name: str) -> str:
    """One of an architecture's lists: digits, many in groups, else numbers with commas."""
    values = [f"{value:g}" for value in architecture[name]]
    if any(len(value) > 1 for value in values):
        return ", ".join(values)
    size = _GROUP if len(values) > 2 * _GROUP else len(values)
    return " ".join("".join(values[start : start + size]) for start in range(0, len(values), size))
