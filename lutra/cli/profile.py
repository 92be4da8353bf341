"""lutra profile: measure every unique op that the table lacks, or model files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.last_resort import unexpected
from lutra.cli.options import (
    FILE,
    as_json,
    budget_option,
    cuda_option,
    network_option,
    runtime_option,
    threads_option,
    with_gpu,
)
from lutra.cli.output import note, note_traceback, print_json, progress, progress_of, watch
from lutra.cli.profile_models import model_work
from lutra.cli.profile_space import DEFAULT_RESOLUTIONS, DEFAULT_SPACE, space_work
from lutra.cli.profile_work import Work, message_of, say_plan
from lutra.errors import LutraError, UsageError
from lutra.files.kinds import TABLE, require_kind

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.profiler.several_devices import JobResult

_INCOMPLETE = 3


@click.command("profile")
@click.argument("specs", metavar="DEVICE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    required=True,
    help="The table, resumed if it exists; or a folder/ for a table per device.",
)
@click.option("--space", help=f"Search space.  [default: {DEFAULT_SPACE}]")
@click.option("--resolutions", help=f"224, 128:224:32 or 'all'.  [default: {DEFAULT_RESOLUTIONS}]")
@click.option(
    "--networks",
    type=click.IntRange(0, 1000),
    help="Whole networks to measure in the same rounds and calibrate on (20; on GPUs none).",
)
@click.option(
    "--sample",
    metavar="SHARE|TIME",
    help="Measure only the ops that say most, 15% of them or what 60s are enough for, and fill the"
    " others in from them.",
)
@click.option(
    "--ops",
    type=FILE,
    metavar="FILE",
    help="Measure only these ops: a key per line; or a search's result, whose networks' they are.",
)
@click.option(
    "--prior",
    type=FILE,
    metavar="TABLE",
    help="Another table of the space, of a similar device, for --sample to fill in by; it is left"
    " out where that is better.",
)
@click.option(
    "--model",
    "models",
    type=FILE,
    multiple=True,
    help="Time this .onnx or .tflite file instead of a space; may be repeated.",
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=SIZES",
    help="What an .onnx file leaves open: an input's x=1,3,224,224 or one size, batch=1.",
)
@click.option(
    "--runtime",
    help="onnxruntime, litert, tflite-runtime, torch or benchmark_model; by default the"
    " device's first.",
)
@click.option("--precision", help="fp32 (default), fp16, bf16, int8; a model file has its own.")
@click.option(
    "--batch", type=click.IntRange(1, 4096), help="Inputs per run (1); latencies are per run."
)
@cuda_option
@threads_option
@runtime_option
@click.option(
    "--time-limit", default="60s", show_default=True, help="Give a model up after this long."
)
@budget_option
@click.option(
    "--again",
    metavar="WHICH",
    help="Measure again what is done: all, a pattern of keys such as 'mbconv/*/k=7/*', or what is"
    " older than a time such as 30d. Stopped, it goes on without this option.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Order of the visits.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and for how long.")
@network_option
@as_json
def command(
    specs: tuple[str, ...],
    output: str,
    models: tuple[Path, ...],
    cuda: str | None,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Measure every unique op configuration of a space that the table lacks.

    Several devices are measured at once, each into a table of its own.
    """
    from lutra.devices.registry import check_spec

    for spec in specs:
        check_spec(spec)
    specs = tuple(with_gpu(spec, cuda) for spec in specs)
    tables = _tables(specs, output)
    for table in tables:
        require_kind(table, TABLE)
    work = model_work(models, given) if models else space_work(given)
    if dry_run:
        return say_plan(work, specs, tables, as_json)
    if len(specs) > 1:
        _make_folder(tables[0].parent)
        verbose = bool(click.get_current_context().find_root().params.get("verbose"))
        return _profile_many(work, specs, tables, as_json, verbose)
    with lutra.open_device(specs[0]) as device:
        _make_folder(tables[0].parent)
        return _profile_one(work, device, specs[0], tables[0], as_json)


def _tables(specs: Sequence[str], output: str) -> list[Path]:
    """The table of each device; raises `UsageError` where ``-o`` has no room for them."""
    from lutra.profiler.several_devices import tables_in

    path = Path(output)
    if not output:
        raise UsageError("-o names no file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path.name}")
    if not (path.is_dir() or output.endswith((os.sep, os.altsep or os.sep))):
        if len(specs) > 1:
            raise UsageError(
                f"{output} is no folder: several devices need one; write -o {output}/"
                if not path.exists()
                else f"{output} is a file: several devices need a folder"
            )
        return [path]
    if path.exists() and not path.is_dir():
        raise UsageError(f"{output} is a file, not a folder")
    return tables_in(path, specs)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error


def _profile_one(work: Work, device: Device, spec: str, table: Path, as_json: bool) -> int:
    with progress("profile") as report:
        summary = work.measure(device, table, watch(report, work.budget_seconds, spec))
    if as_json:
        print_json(work.record(table, summary))
    else:
        work.print_results([(spec, table, summary)], with_spec=False)
    return 0 if summary.complete else _INCOMPLETE


def _profile_many(
    work: Work, specs: Sequence[str], tables: Sequence[Path], as_json: bool, verbose: bool
) -> int:
    from lutra.profiler.several_devices import Job, profile_devices

    with progress_of(specs) as reports:
        results = profile_devices(
            [
                Job(spec, table, watch(reports[spec], work.budget_seconds, spec))
                for spec, table in zip(specs, tables, strict=True)
            ],
            work.measure,
            on_result=_note_error,
        )
    for result in results:
        if verbose and result.error is not None:
            note_traceback(result.error)
    done = [
        (result.job.spec, result.job.table, result.summary)
        for result in results
        if result.summary is not None
    ]
    if as_json:
        print_json({"devices": [_job_record(work, result) for result in results]})
    elif done:
        work.print_results(done, with_spec=True)
    if len(done) < len(results):
        return 1
    return 0 if all(summary.complete for *_, summary in done) else _INCOMPLETE


def _note_error(result: JobResult) -> None:
    error, spec = result.error, result.job.spec
    if isinstance(error, LutraError | OSError):
        note(f"error: {spec}: {message_of(spec, error)}")
    elif error is not None:
        note(f"error: {spec}: {unexpected(error, f'profiling {spec}')}")


def _job_record(work: Work, result: JobResult) -> dict[str, Any]:
    spec, table = result.job.spec, result.job.table
    if result.error is not None:
        return {"spec": spec, "table": str(table), "error": message_of(spec, result.error)}
    assert result.summary is not None
    return {"spec": spec, **work.record(table, result.summary)}
