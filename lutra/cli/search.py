"""lutra search: the most accurate subnet under a budget."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.accuracy_sample import calibration_option, images_option
from lutra.cli.candidates import print_candidates
from lutra.cli.options import FILE, FOLDER, as_json, space_option, table_argument
from lutra.cli.output import note, note_next, print_json, progress
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import RESULT

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
@click.option("--algorithm", default="evolution", show_default=True)
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
    max_latency: tuple[str, ...],
    max_flops: str | None,
    max_params: str | None,
    max_memory: str | None,
    pareto: bool,
    objectives: str | None,
    front_files: tuple[Path, ...],
    algorithm: str,
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
    """The most accurate subnet within budgets of latency, MACs, parameters and memory.

    Latency may be limited on several tables at once. With --pareto the result is a front: the
    subnets that no other one beats in all objectives.
    """
    from lutra.cli.quantities import parse_resolutions
    from lutra.tables.profiled import read_profiled

    limits = _limits(table, max_latency, max_flops, max_params, max_memory)
    names = _objectives(pareto, objectives, front_files, limits["other_tables"])
    _check_outputs(output, front_files)
    if seed < 0:
        raise UsageError(f"--seed {seed} must not be negative")
    _require_together(evaluate, checkpoint, data)
    if names and evaluate is not None:
        raise UsageError("--evaluate orders the best of a search by accuracy; leave out --pareto")
    with lutra.LatencyTable.open(table) as opened, progress("search") as report:
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
            "space": space,
            "accuracy": accuracy_file,
            "seed": seed,
            "resolutions": None
            if resolutions is None
            else parse_resolutions(resolutions, space.resolutions),
            "on_step": lambda done, expected: report(done, expected, float("nan")),
        }
        result = (
            lutra.find_front(opened, objectives=names, **asked)
            if names
            else lutra.find_networks(opened, algorithm=algorithm, **_kept(evaluate), **asked)
        )
    if measuring is not None and evaluate is not None:
        result = _evaluated(result, measuring, evaluate)
    _write(result, output, front_files)
    if as_json:
        print_json(result.to_json())
        return
    for text in result.notes:
        note(text)
    if not predictor.calibrated:
        note(f"the table is not calibrated: latencies are plain sums; run lutra calibrate {table}")
    print_candidates(result, measured=evaluate is not None)
    note(f"{result.evaluations} architectures scored in {result.cpu_seconds:.1f} CPU s")
    if output is not None:
        note_next(shlex.join(["lutra", "verify", str(output), "--device", device]))


def _limits(
    table: Path,
    max_latency: tuple[str, ...],
    max_flops: str | None,
    max_params: str | None,
    max_memory: str | None,
) -> dict[str, Any]:
    """The limits as `lutra.find_networks` takes them; raises `UsageError`."""
    from lutra.cli.quantities import parse_bytes, parse_count, parse_latency_limits

    latency_ms, other_tables = parse_latency_limits(max_latency, table)
    return {
        "max_latency_ms": latency_ms,
        "max_macs": parse_count(max_flops) if max_flops is not None else None,
        "max_params": parse_count(max_params) if max_params is not None else None,
        "max_memory": parse_bytes(max_memory) if max_memory is not None else None,
        "other_tables": other_tables,
    }


def _objectives(
    pareto: bool,
    objectives: str | None,
    front_files: tuple[Path, ...],
    other_tables: dict[str | Path, float | None],
) -> tuple[str, ...]:
    """What a front is asked for, none where no front is.

    Tables that are only named among the objectives are added to the others, without a limit.
    """
    from lutra.search.fronts.find import DEFAULT_OBJECTIVES
    from lutra.search.fronts.objectives import OBJECTIVES

    if not (pareto or objectives or front_files):
        return ()
    context = click.get_current_context()
    if context.get_parameter_source("algorithm") is not click.core.ParameterSource.DEFAULT:
        raise UsageError("a front is found by NSGA-II: leave out --algorithm")
    if objectives is None:
        return DEFAULT_OBJECTIVES
    names = tuple(name.strip() for name in objectives.split(","))
    for name in names:
        if name not in OBJECTIVES and Path(name).is_file():
            other_tables.setdefault(name, None)
    return names


def _check_outputs(output: Path | None, front_files: tuple[Path, ...]) -> None:
    """Raise now what writing the files would: a search comes first."""
    for path in (*front_files, *([] if output is None else [output])):
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} for {path.name}")
    if output is not None:
        check_output(output, RESULT)
    if front_files:
        from lutra.search.fronts.files import check_front_file

        for path in front_files:
            check_front_file(path)


def _write(result: lutra.SearchResult, output: Path | None, front_files: tuple[Path, ...]) -> None:
    if output is not None:
        result.write(output)
    if front_files:
        from lutra.search.fronts.files import write_front

        for path in front_files:
            write_front(result, path)


def _kept(evaluate: int | None) -> dict[str, Any]:
    """Enough candidates for what is to be evaluated."""
    from lutra.search.find import KEPT

    return {} if evaluate is None else {"hyperparameters": {"keep": max(evaluate, KEPT)}}


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
