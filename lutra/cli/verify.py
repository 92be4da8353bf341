"""lutra verify: measure what a search found."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json
from lutra.cli.output import note, print_json, print_table, progress, watch


@click.command("verify")
@click.argument("result", type=FILE)
@click.option("--device", "device_spec", required=True, help="Where to measure, such as cpu.")
@click.option(
    "--count",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="How many of the best candidates to measure.",
)
@as_json
def command(result: Path, device_spec: str, count: int, as_json: bool) -> None:
    """Measure the found subnets end to end; the result file gains what was measured."""
    with progress("verify") as report:
        verified = lutra.verify(result, device=device_spec, count=count, watch=watch(report))
    verified.write(result)
    if as_json:
        print_json(verified.to_json())
        return
    print_verified(verified, count)
    note(f"written to {result}")


def print_verified(verified: lutra.SearchResult, count: int) -> None:
    """Predicted against measured, one line per candidate."""
    print_table(
        [
            "accuracy %",
            "predicted_ms",
            "measured_ms",
            "ci_low_ms",
            "ci_high_ms",
            "error %",
            "within budget",
            "flags",
        ],
        [
            [
                candidate.accuracy,
                candidate.predicted_ms,
                candidate.verified.measured_ms,
                candidate.verified.ci_low_ms,
                candidate.verified.ci_high_ms,
                candidate.verified.error_percent,
                _yes_no(candidate.verified.within_budget),
                ",".join(candidate.verified.flags),
            ]
            for candidate in verified.candidates[:count]
            if candidate.verified is not None
        ],
    )


def _yes_no(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "-"}[value]
