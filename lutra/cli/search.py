"""lutra search: the most accurate subnet under a budget."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json, space_option, table_argument
from lutra.cli.output import note, print_json, print_table, progress
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import RESULT


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
        result = lutra.find_networks(
            opened,
            max_latency_ms=latency_ms,
            max_macs=macs,
            space=space,
            accuracy=accuracy_file,
            algorithm=algorithm,
            seed=seed,
            resolutions=parse_resolutions(resolutions, space.resolutions) if resolutions else None,
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
    print_table(
        ["accuracy %", "predicted_ms", "low", "high", "macs M", "params M", "r", "d"],
        [
            [
                c.accuracy,
                c.predicted_ms,
                c.predicted_low_ms,
                c.predicted_high_ms,
                c.macs / 1e6,
                c.params / 1e6,
                c.architecture.r,
                "".join(map(str, c.architecture["d"])),
            ]
            for c in result.candidates
        ],
    )
    note(f"{result.evaluations} architectures scored in {result.cpu_seconds:.1f} CPU s")
    if output is not None:
        note(f"next: lutra verify {output} --device DEVICE")
