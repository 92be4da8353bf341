"""lutra profile: measure every unique op configuration that the table lacks, or model files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lutra.cli.options import (
    FILE,
    as_json,
    budget_option,
    parse_runtime_options,
    runtime_option,
    threads_option,
)
from lutra.cli.output import note, print_json, print_table, progress, visits_to
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.devices.base import Device, Setting
    from lutra.profiler.model_file import ModelFile
    from lutra.profiler.run import Protocol, RunSummary
    from lutra.search.spaces import SearchSpace

DEFAULT_SPACE = "ofa-mbv3-w1.0"
DEFAULT_RESOLUTIONS = "224"
_VISIT_OVERHEAD_SECONDS = 0.01


@click.command("profile")
@click.argument("device_spec", metavar="DEVICE")
@click.option("-o", "--output", type=FILE, required=True, help="The table; resumed if it exists.")
@click.option("--space", help=f"Search space.  [default: {DEFAULT_SPACE}]")
@click.option("--resolutions", help=f"224, 128:224:32 or 'all'.  [default: {DEFAULT_RESOLUTIONS}]")
@click.option(
    "--model",
    "models",
    type=FILE,
    multiple=True,
    help="Time this .onnx or .tflite file instead of a space; may be repeated.",
)
@click.option("--runtime", help="onnxruntime (default), litert, tflite-runtime or torch.")
@click.option("--precision", help="fp32 (default), fp16 or int8; a model file has its own.")
@threads_option
@runtime_option
@click.option(
    "--time-limit", default="60s", show_default=True, help="Give a model up after this long."
)
@budget_option
@click.option("--seed", type=int, default=0, show_default=True, help="Order of the visits.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and for how long.")
@as_json
def command(
    device_spec: str,
    output: Path,
    runtime: str | None,
    threads: int,
    runtime_options: tuple[str, ...],
    models: tuple[Path, ...],
    as_json: bool,
    **given: Any,
) -> int:
    """Measure every unique op configuration of a space that the table lacks."""
    from lutra.devices.base import Setting
    from lutra.devices.registry import open_device

    device = open_device(device_spec)
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} for {output.name}")
    options = parse_runtime_options(runtime_options)
    setting = Setting(runtime or "onnxruntime", threads=threads, options=options)
    if models:
        return _profile_models(device, output, models, setting, runtime, as_json, given)
    return _profile_space(device, output, setting, as_json, given)


def _profile_space(
    device: Device, output: Path, setting: Setting, as_json: bool, given: dict[str, Any]
) -> int:
    from lutra.profiler.run import Protocol
    from lutra.search.limits import parse_budget, parse_resolutions
    from lutra.search.profile import profile
    from lutra.search.spaces import get_space

    space = get_space(given["space"] or DEFAULT_SPACE)
    chosen = parse_resolutions(given["resolutions"] or DEFAULT_RESOLUTIONS, space.resolutions)
    space.check_resolutions(chosen)
    protocol = _limited(Protocol(seed=given["seed"]), given)
    seconds = parse_budget(given["budget"])
    if given["dry_run"]:
        _print_plan(output, space, chosen, protocol, as_json)
        return 0
    with progress("profile") as report:
        summary = profile(
            device,
            output,
            space,
            chosen,
            setting=setting,
            precision=given["precision"] or "fp32",
            protocol=protocol,
            budget_seconds=seconds,
            on_progress=visits_to(report),
        )
    _print_summary(summary, output, as_json)
    if not as_json:
        note(f"next: lutra calibrate {output}")
    return 0 if summary.complete else 3


def _profile_models(
    device: Device,
    output: Path,
    paths: tuple[Path, ...],
    setting: Setting,
    runtime: str | None,
    as_json: bool,
    given: dict[str, Any],
) -> int:
    from lutra.profiler.emission import runtimes_of
    from lutra.profiler.model_file import read_model_file
    from lutra.search.limits import parse_budget
    from lutra.search.networks import NETWORK_PROTOCOL
    from lutra.search.profile import profile_models

    models = [read_model_file(path) for path in paths]
    _refuse_space_options(models, given)
    if runtime is None:
        setting = replace(setting, runtime=runtimes_of(models[0].format)[0])
    protocol = _limited(replace(NETWORK_PROTOCOL, seed=given["seed"]), given)
    if given["dry_run"]:
        rows = [[model.subject.key, model.precision, setting.runtime] for model in models]
        columns = ["model", "precision", "runtime"]
        if as_json:
            print_json([dict(zip(columns, row, strict=True)) for row in rows])
        else:
            print_table(columns, rows)
        return 0
    with progress("profile") as report:
        summary = profile_models(
            device,
            output,
            models,
            setting=setting,
            protocol=protocol,
            budget_seconds=parse_budget(given["budget"]),
            on_progress=visits_to(report),
        )
    _print_models(summary, output, models, as_json)
    return 0 if summary.complete else 3


def _limited(protocol: Protocol, given: dict[str, Any]) -> Protocol:
    from lutra.search.limits import parse_seconds

    return replace(protocol, limit_seconds=parse_seconds(given["time_limit"]))


def _refuse_space_options(models: list[ModelFile], given: dict[str, Any]) -> None:
    for name in ("space", "resolutions"):
        if given[name] is not None:
            raise UsageError(f"--model and --{name} exclude each other: a model file is whole")
    for model in models:
        if given["precision"] not in (None, model.precision):
            raise UsageError(
                f"{model.path} is {model.precision}; --precision {given['precision']} cannot"
                " change that"
            )


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


def _print_models(
    summary: RunSummary, output: Path, models: list[ModelFile], as_json: bool
) -> None:
    from lutra.tables import LatencyTable
    from lutra.tables.table import row_record

    keys = {model.subject.key for model in models}
    with LatencyTable.open(output) as table:
        records = [row_record(row) for row in table.rows("network") if row.key in keys]
    if as_json:
        print_json({"table": str(output), **asdict(summary), "models": records})
        return
    columns = ["key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status", "failure"]
    print_table(columns, [[record[name] or "-" for name in columns] for record in records])


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
