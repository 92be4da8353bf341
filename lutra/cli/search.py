"""lutra search: the most accurate subnet under a budget."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.accuracy_sample import calibration_option, images_option
from lutra.cli.candidates import print_candidates
from lutra.cli.options import (
    FILE,
    FOLDER,
    WEIGHTS,
    as_json,
    plot_option,
    space_option,
    table_argument,
)
from lutra.cli.output import note, note_next, print_json, progress
from lutra.cli.search_files import Outputs
from lutra.cli.search_limits import limits_of, objectives_of
from lutra.cli.search_single_path import (
    SinglePathOptions,
    print_trained,
    single_path_options,
    train_single_path,
    trains,
)
from lutra.cli.search_verified import Verification, note_closed_loop
from lutra.cli.verify import print_verified
from lutra.errors import UsageError
from lutra.files.kinds import NETWORK, is_of_kind

if TYPE_CHECKING:
    from lutra.supernets.accuracy.inherited import InheritedAccuracy


@click.command("search")
@table_argument
@click.option(
    "--max-latency",
    multiple=True,
    metavar="[OTHER.lut=]TIME",
    help="Budget with a unit, such as 20ms; board.lut=50ms by another table, too.",
)
@click.option(
    "--or",
    "alternatives",
    type=FILE,
    multiple=True,
    metavar="OTHER.lut",
    help="A table of another precision: networks may be of either.",
)
@click.option(
    "--accuracy-loss",
    "losses",
    multiple=True,
    metavar="PRECISION=POINTS",
    help="What a precision costs: int8=0.5, or int8=fp32.json,int8.json of lutra evaluate --json.",
)
@click.option("--max-flops", help="Budget of multiply-accumulates, such as 300M.")
@click.option("--max-params", help="Budget of parameters, such as 5M.")
@click.option("--max-memory", help="Budget of peak activation memory in bytes, such as 20M.")
@click.option("--pareto", is_flag=True, help="Find the front of accuracy and latency.")
@click.option(
    "--objectives",
    help="What the front is over, such as accuracy,latency,macs: also params, memory, OTHER.lut.",
)
@click.option(
    "--front",
    "front_files",
    type=FILE,
    multiple=True,
    help="Write the front here: .csv, .json, .svg or .png.",
)
@click.option(
    "--algorithm", default="auto", show_default=True, help="single-path trains, on --data."
)
@click.option("--preset", help="Published settings: light-nas (annealing), ofa (evolution).")
@click.option("--accuracy", "accuracy_file", type=FILE, help="OFA's, or `lutra accuracy fit`'s.")
@click.option(
    "--resolutions", help="Search these only; by default all that table and accuracy know."
)
@click.option(
    "--robust",
    type=click.FloatRange(0, 100),
    metavar="POINTS",
    help="Of candidates so near to the best (0.02, say) put the surest predictions first.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--evaluate",
    type=click.IntRange(1, 1000),
    help="Measure the accuracy of so many of the best, and order them by it.",
)
@click.option(
    "--checkpoint", type=WEIGHTS, help="What to evaluate with; a module's tells its space too."
)
@click.option("--data", type=FOLDER, help="Folder with the labelled images to evaluate on.")
@images_option
@calibration_option
@click.option(
    "--verify",
    is_flag=True,
    help="Measure what is found, and search again, until a network keeps the budget.",
)
@click.option("--device", "device_spec", help="Where to measure; by default the table's own.")
@click.option(
    "--confidence",
    type=click.FloatRange(50, 99.9),
    default=95.0,
    show_default=True,
    help="Percent of processes that are to keep the budget.",
)
@click.option("-o", "--output", type=FILE, help="Write the result here.")
@click.option("--ofa-config", type=FILE, help="Write the best network here as OFA's config dict.")
@plot_option
@space_option
@single_path_options
@as_json
def command(
    table: Path,
    max_latency: tuple[str, ...],
    alternatives: tuple[Path, ...],
    losses: tuple[str, ...],
    max_flops: str | None,
    max_params: str | None,
    max_memory: str | None,
    pareto: bool,
    objectives: str | None,
    front_files: tuple[Path, ...],
    algorithm: str,
    preset: str | None,
    accuracy_file: Path | None,
    resolutions: str | None,
    robust: float | None,
    seed: int,
    evaluate: int | None,
    checkpoint: Path | None,
    data: Path | None,
    images: int | None,
    calibration_images: int,
    verify: bool,
    device_spec: str | None,
    confidence: float,
    output: Path | None,
    ofa_config: Path | None,
    plot: Path | None,
    space_name: str | None,
    as_json: bool,
    **single_path: Any,
) -> None:
    """The most accurate subnet within budgets of latency, MACs, parameters and memory.

    Latency may be limited on several tables at once. With --pareto the result is a front: the
    subnets that no other one beats in all objectives. With --verify what is found is measured,
    until a network keeps its budget. With --or networks may be of several precisions.
    """
    from lutra.cli.quantities import parse_losses, parse_resolutions
    from lutra.tables.profiled import read_profiled

    limits = limits_of(table, max_latency, max_flops, max_params, max_memory)
    names = objectives_of(pareto, objectives, front_files, limits["other_tables"])
    own = SinglePathOptions(**single_path)
    outputs = Outputs(output, ofa_config, front_files, plot, own.weights, own.curve)
    outputs.check(of_front=bool(names))
    if seed < 0:
        raise UsageError(f"--seed {seed} must not be negative")
    verification = Verification(table, device_spec, confidence, verify=verify)
    if trains(algorithm):
        with outputs.trained_into():
            found = train_single_path(
                table, limits, own, data, checkpoint, resolutions, space_name, seed, verification
            )
            outputs.write_trained(found)
        print_trained(found, outputs, as_json=as_json)
        click.get_current_context().exit(verification.exit_code(found.result))
    _require_together(evaluate, checkpoint, data)
    measures = evaluate is not None or verify
    _require_one_order(front=bool(names), measures=measures, robust=robust is not None)
    verification.require(limits["max_latency_ms"])
    with lutra.LatencyTable.open(table) as opened:
        predictor = lutra.EfficiencyPredictor(opened, space_name)
        space = predictor.space
        measuring = (  # before the search: what does not fit together is said at once
            _measuring(checkpoint, data, space.name, images, calibration_images)
            if checkpoint is not None and data is not None
            else None
        )
        device = read_profiled(opened).device or "DEVICE"
    asked = {
        **limits,
        "alternatives": alternatives,
        "accuracy_loss": parse_losses(losses),
        "space": space,
        "accuracy": accuracy_file,
        "seed": seed,
        "resolutions": None
        if resolutions is None
        else parse_resolutions(resolutions, space.resolutions),
    }
    if names:
        result = _searched(lutra.find_front, table, {"objectives": names, **asked})
    else:
        asked |= {"algorithm": algorithm, "preset": preset, **_kept(evaluate)}
        result = (
            verification.search(asked, outputs.write_result)
            if verify
            else _searched(lutra.find_networks, table, {"robust": robust, **asked})
        )
    if measuring is not None and evaluate is not None:
        result = _evaluated(result, measuring, evaluate)
    outputs.write(result)
    code = verification.exit_code(result)
    if as_json:
        print_json(result.to_json())
        click.get_current_context().exit(code)
    for text in result.notes:
        note(text)
    if predictor.origin is None and not predictor.calibrated:
        note(f"the table is not calibrated: latencies are plain sums; run lutra calibrate {table}")
    if verify:
        print_verified(result, len(result.candidates))
        note_closed_loop(result)
        click.get_current_context().exit(code)
    print_candidates(result, measured=evaluate is not None)
    note(f"{result.evaluations} architectures scored in {result.cpu_seconds:.1f} CPU s")
    if output is not None and predictor.origin is None:
        note_next(shlex.join(["lutra", "verify", str(output), "--device", device]))


def _searched(
    find: Callable[..., lutra.SearchResult], table: Path, asked: dict[str, Any]
) -> lutra.SearchResult:
    with progress("search") as report:
        return find(
            table, on_step=lambda done, expected: report(done, expected, float("nan")), **asked
        )


def _kept(evaluate: int | None) -> dict[str, Any]:
    """Enough candidates for what is to be evaluated."""
    from lutra.search.find import KEPT

    return {} if evaluate is None else {"hyperparameters": {"keep": max(evaluate, KEPT)}}


def _require_one_order(*, front: bool, measures: bool, robust: bool) -> None:
    """Raise `UsageError` where candidates would be ordered by several things at once."""
    if front and measures:
        raise UsageError("--evaluate and --verify are of single networks; leave out --pareto")
    if robust and (front or measures):
        raise UsageError("--robust orders predictions: leave out --pareto, --evaluate and --verify")


def _require_together(evaluate: int | None, checkpoint: Path | None, data: Path | None) -> None:
    """Raise `UsageError` where only some of what evaluating needs is given."""
    if evaluate is not None and (checkpoint is None or data is None):
        raise UsageError("--evaluate needs --checkpoint FILE and --data FOLDER")
    needless = checkpoint is not None and not is_of_kind(checkpoint, NETWORK)
    if evaluate is None and (needless or data is not None):
        raise UsageError("--checkpoint and --data go with --evaluate 10, say")


def _measuring(
    checkpoint: Path, data: Path, space: str, images: int | None, calibration_images: int
) -> InheritedAccuracy:
    from lutra.supernets.accuracy.inherited import InheritedAccuracy

    return InheritedAccuracy.read(
        checkpoint, data, space=space, images=images, calibration_images=calibration_images
    )


def _evaluated(
    result: lutra.SearchResult, measuring: InheritedAccuracy, count: int
) -> lutra.SearchResult:
    """Candidates ordered by measured accuracy; of those that were timed, those in the budget."""
    from lutra.search.measuring.evaluation import evaluate

    if result.closed_loop is not None:
        count = min(count, result.closed_loop.kept)
    with progress("evaluate") as report:
        return evaluate(
            result,
            measuring,
            count=count,
            on_step=lambda done, expected: report(done, expected, float("nan")),
        )
