"""lutra search: the most accurate subnet under a budget."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import FILE, as_json, space_option, table_argument
from lutra.cli.output import note, note_next, print_json, print_table, progress
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import RESULT

if TYPE_CHECKING:
    from lutra.spaces import Architecture

_GROUP = 4  # blocks of a stage


@click.command("search")
@table_argument
@click.option("--max-latency", help="Budget with a unit, such as 20ms or 850us.")
@click.option("--max-flops", help="Budget of multiply-accumulates, such as 300M.")
@click.option("--algorithm", default="evolution", show_default=True)
@click.option("--accuracy", "accuracy_file", type=FILE, help="One of OFA's accuracy predictors.")
@click.option(
    "--resolutions", help="Search these only; by default all that table and accuracy know."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("-o", "--output", type=FILE, help="Write the result here.")
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
    output: Path | None,
    space_name: str | None,
    as_json: bool,
) -> None:
    """The most accurate subnet within a budget of latency, MACs or both."""
    from lutra.cli.quantities import parse_count, parse_latency_ms, parse_resolutions
    from lutra.tables.profiled import read_profiled

    latency_ms = parse_latency_ms(max_latency) if max_latency is not None else None
    macs = parse_count(max_flops) if max_flops is not None else None
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    if output is not None:
        check_output(output, RESULT)
    if seed < 0:
        raise UsageError(f"--seed {seed} must not be negative")
    with lutra.LatencyTable.open(table) as opened, progress("search") as report:
        predictor = lutra.EfficiencyPredictor(opened, space_name)
        space = predictor.space
        device = read_profiled(opened).device or "DEVICE"
        result = lutra.find_networks(
            opened,
            max_latency_ms=latency_ms,
            max_macs=macs,
            space=space,
            accuracy=accuracy_file,
            algorithm=algorithm,
            seed=seed,
            resolutions=None
            if resolutions is None
            else parse_resolutions(resolutions, space.resolutions),
            on_step=lambda done, expected: report(done, expected, float("nan")),
        )
    if output is not None:
        result.write(output)
    if as_json:
        print_json(result.to_json())
        return
    for text in result.notes:
        note(text)
    if not predictor.calibrated:
        note(f"the table is not calibrated: latencies are plain sums; run lutra calibrate {table}")
    found = [candidate.architecture for candidate in result.candidates]
    genes = [name for name, _ in found[0].lists]
    print_table(
        ["accuracy %", "predicted_ms", "low", "high", "macs M", "params M", "r", *genes],
        [
            [
                c.accuracy,
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


def genes_text(architecture: Architecture, name: str) -> str:
    """One of an architecture's lists: digits, many in groups, else numbers with commas."""
    values = [f"{value:g}" for value in architecture[name]]
    if any(len(value) > 1 for value in values):
        return ", ".join(values)
    size = _GROUP if len(values) > 2 * _GROUP else len(values)
    return " ".join("".join(values[start : start + size]) for start in range(0, len(values), size))
