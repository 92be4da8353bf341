"""lutra search: the most accurate subnet under a budget."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.accuracy_sample import calibration_option, images_option
from lutra.cli.options import FILE, FOLDER, as_json, space_option, table_argument
from lutra.cli.output import note, note_next, print_json, print_table, progress, watch
from lutra.cli.verify import print_verified
from lutra.errors import UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import OFA_CONFIG, RESULT, FileKind

if TYPE_CHECKING:
    from lutra.search.result import Candidate
    from lutra.spaces import Architecture
    from lutra.supernets.accuracy.inherited import InheritedAccuracy

_GROUP = 4  # blocks of a stage


@click.command("search")
@table_argument
@click.option("--max-latency", help="Budget with a unit, such as 20ms or 850us.")
@click.option("--max-flops", help="Budget of multiply-accumulates, such as 300M.")
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
@space_option
@as_json
def command(
    table: Path,
    max_latency: str | None,
    max_flops: str | None,
    algorithm: str,
    accuracy_file: Path | None,
    resolutions: str | None,
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
    space_name: str | None,
    as_json: bool,
) -> None:
    """The most accurate subnet within a budget of latency, MACs or both."""
    from lutra.cli.quantities import parse_count, parse_latency_ms, parse_resolutions
    from lutra.search.find import KEPT
    from lutra.tables.profiled import read_profiled

    latency_ms = parse_latency_ms(max_latency) if max_latency is not None else None
    macs = parse_count(max_flops) if max_flops is not None else None
    _check_output(output, RESULT)
    _check_output(ofa_config, OFA_CONFIG)
    if seed < 0:
        raise UsageError(f"--seed {seed} must not be negative")
    _require_together(evaluate, checkpoint, data)
    _require_budget(latency_ms, device_spec, verify=verify)
    with lutra.LatencyTable.open(table) as opened:
        predictor = lutra.EfficiencyPredictor(opened, space_name)
        space = predictor.space
        measuring = (  # before the search: what does not fit together is said at once
            _measuring(checkpoint, data, space.name, images, calibration_images)
            if checkpoint is not None and data is not None
            else None
        )
        device = read_profiled(opened).device or "DEVICE"
        question: dict[str, Any] = {
            "max_macs": macs,
            "space": space,
            "accuracy": accuracy_file,
            "algorithm": algorithm,
            "seed": seed,
            "hyperparameters": None if evaluate is None else {"keep": max(evaluate, KEPT)},
            "resolutions": None
            if resolutions is None
            else parse_resolutions(resolutions, space.resolutions),
        }
    if verify:
        result = _within_budget(table, latency_ms, device_spec, confidence, output, question)
    else:
        with progress("search") as report:
            result = lutra.find_networks(
                table,
                max_latency_ms=latency_ms,
                on_step=lambda done, expected: report(done, expected, float("nan")),
                **question,
            )
    if measuring is not None and evaluate is not None:
        result = _evaluated(result, measuring, evaluate)
    _write(result, output, ofa_config)
    if as_json:
        print_json(result.to_json())
        return
    for text in result.notes:
        note(text)
    if predictor.origin is None and not predictor.calibrated:
        note(f"the table is not calibrated: latencies are plain sums; run lutra calibrate {table}")
    if verify:
        print_verified(result, len(result.candidates))
        note_closed_loop(result)
        return
    _print_found(result, evaluated=evaluate is not None)
    if output is not None and predictor.origin is None:
        note_next(shlex.join(["lutra", "verify", str(output), "--device", device]))


def _print_found(result: lutra.SearchResult, *, evaluated: bool) -> None:
    """What is predicted of the candidates, and measured of their accuracy."""
    genes = [name for name, _ in result.best.architecture.lists]
    measured = ["measured %", "low %", "high %"] if evaluated else []
    print_table(
        ["accuracy %", *measured, "predicted_ms", "low", "high", "macs M", "params M", "r", *genes],
        [
            [
                c.accuracy,
                *(_measured(c) if evaluated else []),
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


def _check_output(output: Path | None, kind: FileKind) -> None:
    """Raise now what writing the result or the config would."""
    if output is None:
        return
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    check_output(output, kind)


def _write(result: lutra.SearchResult, output: Path | None, ofa_config: Path | None) -> None:
    """The result, and its best network's config, where they are wanted."""
    if output is not None:
        result.write(output)
    if ofa_config is not None:
        config = json.dumps(result.best.architecture.to_ofa())
        write_atomically(ofa_config, f"{config}\n".encode(), kind=OFA_CONFIG)


def _require_budget(latency_ms: float | None, device: str | None, *, verify: bool) -> None:
    """Raise `UsageError` where measuring lacks a budget, or a device has nothing to measure."""
    if verify and latency_ms is None:
        raise UsageError("--verify needs the budget that is to be kept: --max-latency 20ms")
    if device is not None and not verify:
        raise UsageError("--device goes with --verify")


def _within_budget(
    table: Path,
    latency_ms: float | None,
    device: str | None,
    confidence: float,
    output: Path | None,
    question: dict[str, Any],
) -> lutra.SearchResult:
    """Search and measure; the result so far is in the output file all along."""
    assert latency_ms is not None  # see `_require_budget`
    with progress("verify") as report:
        return lutra.find_within_budget(
            table,
            latency_ms,
            device=device,
            confidence=confidence / 100.0,
            watch=watch(report),
            on_result=lambda result: None if output is None else result.write(output),
            **question,
        )


def note_closed_loop(result: lutra.SearchResult) -> None:
    """What was found, and what caution cost."""
    loop, best = result.closed_loop, result.best
    if loop is None or best.verified is None or loop.accuracy_cost is None:
        return
    slack = 1.0 - best.verified.measured_ms / result.limits["latency_ms"]
    cost = loop.accuracy_cost
    note(
        f"the first one keeps the budget with {100 * slack:.1f} % to spare; what a search that"
        f" measures nothing proposes is predicted {abs(cost):.2f} points"
        f" {'more' if cost >= 0 else 'less'} accurate"
    )


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
    """Candidates ordered by measured accuracy; of those that were timed, those in the budget."""
    from lutra.search.evaluation import evaluate

    if result.closed_loop is not None:
        count = min(count, result.closed_loop.kept)
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
