"""lutra verify: measure what a search found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lutra.cli.options import FILE, as_json
from lutra.cli.output import note, print_json, print_table, progress, visits_to

if TYPE_CHECKING:
    from lutra.search.result import SearchResult


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
    from lutra.devices.registry import open_device
    from lutra.profiler.job import open_bench, setting_of
    from lutra.search.result import SearchResult
    from lutra.search.verify import verify

    found = SearchResult.read(result)
    target = found.target
    with (
        open_bench(open_device(device_spec), setting_of(target), target.precision) as bench,
        progress("verify") as report,
    ):
        verified = verify(
            bench,
            found,
            count=count,
            on_progress=visits_to(report),
        )
    verified.write(result)
    if as_json:
        print_json(verified.to_json())
        return
    print_verified(verified, count)
    note(f"written to {result}")


def print_verified(verified: SearchResult, count: int) -> None:
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
