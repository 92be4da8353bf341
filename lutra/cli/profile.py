"""lutra profile: measure every unique op configuration that the table lacks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lutra.cli.options import FILE, as_json, budget_option
from lutra.cli.output import note, print_json, print_table, progress
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.profiler.run import Protocol, RunSummary
    from lutra.search.spaces import SearchSpace

DEFAULT_SPACE = "ofa-mbv3-w1.0"
_VISIT_OVERHEAD_SECONDS = 0.01


@click.command("profile")
@click.argument("device_spec", metavar="DEVICE")
@click.option("-o", "--output", type=FILE, required=True, help="The table; resumed if it exists.")
@click.option("--space", "space_name", default=DEFAULT_SPACE, show_default=True)
@click.option("--resolutions", default="224", show_default=True, help="224, 128:224:32 or 'all'.")
@click.option("--runtime", default="onnxruntime", show_default=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads = pinned cores.")
@budget_option
@click.option("--seed", type=int, default=0, show_default=True, help="Order of the visits.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and for how long.")
@as_json
def command(
    device_spec: str,
    output: Path,
    space_name: str,
    resolutions: str,
    runtime: str,
    precision: str,
    threads: int,
    budget: str | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Measure every unique op configuration of a space that the table lacks."""
    from lutra.devices.base import Setting
    from lutra.devices.registry import open_device
    from lutra.profiler.run import Protocol
    from lutra.search.limits import parse_budget, parse_resolutions
    from lutra.search.profile import profile
    from lutra.search.spaces import get_space

    device = open_device(device_spec)
    space = get_space(space_name)
    chosen = parse_resolutions(resolutions, space.resolutions)
    space.check_resolutions(chosen)
    seconds = parse_budget(budget)
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    protocol = Protocol(seed=seed)
    if dry_run:
        _print_plan(output, space, chosen, protocol, as_json)
        return 0
    with progress("profile") as report:
        summary = profile(
            device,
            output,
            space,
            chosen,
            setting=Setting(runtime, threads=threads),
            precision=precision,
            protocol=protocol,
            budget_seconds=seconds,
            on_progress=lambda p: report(p.done, p.expected, p.eta_seconds),
        )
    _print_summary(summary, output, as_json)
    return 0 if summary.complete else 3


def _print_plan(
    output: Path,
    space: SearchSpace,
    resolutions: tuple[int, ...],
    protocol: Protocol,
    as_json: bool,
) -> None:
    from lutra.search.profile import missing_keys

    total = len(space.units_at(resolutions))
    missing = missing_keys(output, space, resolutions)
    visits = len(missing) * protocol.rule.min_rounds
    seconds = visits * (protocol.seconds + protocol.warmup_seconds + _VISIT_OVERHEAD_SECONDS)
    if as_json:
        print_json({"ops": total, "missing": len(missing), "least_seconds": round(seconds)})
        return
    print_table(["ops", "to measure", "at least"], [[total, len(missing), f"{seconds:.0f} s"]])


def _print_summary(summary: RunSummary, output: Path, as_json: bool) -> None:
    if as_json:
        print_json({"table": str(output), **asdict(summary)})
        return
    print_table(
        ["table", "ops", "stable", "unstable", "partial", "failed", "seconds", "timing %"],
        [
            [
                str(output),
                summary.subjects,
                summary.stable,
                summary.unstable,
                summary.partial,
                summary.failed,
                summary.wall_seconds,
                100.0 * summary.busy_seconds / max(summary.wall_seconds, 1e-9),
            ]
        ],
    )
    if summary.partial:
        note("some ops were not visited often enough; the same command goes on")
    note(f"next: lutra calibrate {output}")
