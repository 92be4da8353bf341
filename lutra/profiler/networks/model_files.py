"""Whole model files of the user's measured: into a table, as network rows, or side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lutra.devices.base import RuntimeConfig
from lutra.devices.registry import opened_device, runtimes_of
from lutra.emitters.model_file import ModelFile, read_model_files
from lutra.errors import ModelError, UsageError
from lutra.files.kinds import is_there
from lutra.files.scratch import scratch_folder
from lutra.profiler.bench import (
    Bench,
    DeviceOrSpec,
    choose_runtime,
    known_core_mask,
    open_bench,
    open_or_create,
    open_to_read,
)
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.stopping import Again
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import Workload, model_workload
from lutra.tables import LatencyTable, Measurement, Target


def profile_models(
    device: DeviceOrSpec,
    models: Sequence[ModelFile | str | Path],
    table: str | Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    again: Again | None = None,
    runtime: str | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
) -> RunSummary:
    """Measure whole model files (at least one) into the table in a file, as network rows.

    They must be of one format and precision, as a table speaks of one target; the batch is theirs.
    ``shapes`` gives what ONNX files leave open: an input's sizes (``{"x": (1, 3, 48, 320)}``), or
    one size by its name (``{"batch": (1,)}``). TFLite files run at those that they hold for that.
    The row's key tells both.
    Raises `ModelError` for a file that is no model or leaves a size open, `UsageError` if they
    differ, the runtime loads another format or a shape does not fit, else as `profile` does.

    >>> export("result.json", "model.onnx")["precision"]
    'fp32'
    >>> profile_models("cpu", ["model.onnx"], "models.lut").workloads
    1
    """
    files = read_model_files(models, shapes)
    with (
        _bench_of_models(device, files, table, again, runtime, threads, options or {}) as bench,
        open_or_create(table, bench.target) as stored,
    ):
        watch.on_ready(bench.target)
        workloads = _models(files, bench)
        if again is not None:
            stored.replace_visits(again.chosen(stored, workloads))
        return bench.measure(stored, workloads, protocol, watch=watch)


def plan_models(
    device: DeviceOrSpec,
    models: Sequence[ModelFile | str | Path],
    table: str | Path,
    *,
    again: Again | None = None,
    runtime: str | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
) -> Target:
    """The target that `profile_models` would measure; raises what it would, and writes nothing."""
    files = read_model_files(models)
    with _bench_of_models(device, files, table, again, runtime, threads, options or {}) as bench:
        if is_there(Path(table)):
            open_to_read(table, bench.target).close()
        return bench.target


def time_models(
    device: DeviceOrSpec,
    models: Sequence[ModelFile | str | Path],
    *,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
) -> list[Measurement]:
    """What model files of one format and any precisions take side by side, in their order.

    They are visited in turns, in the same shuffled rounds, on one thread of the device's preferred
    runtime, so that the machine's state is the same for all. No table is kept. Raises `ModelError`
    for one that cannot be measured, else as `profile_models` does.
    """
    files = read_model_files(models)
    _check_alike(files, "format")
    with (
        scratch_folder() as folder,
        _bench_of_files(device, files) as bench,
        LatencyTable.create(folder / "files.lut", bench.target) as stored,
    ):
        watch.on_ready(bench.target)
        bench.measure(stored, _models(files, bench), protocol, watch=watch)
        return [measurement_of(stored, file) for file in files]


def require_timing(device: DeviceOrSpec, format: str) -> None:
    """Raise now what `time_models` would for files of a format: no such device, or no runtime."""
    with opened_device(device) as opened:
        choose_runtime(opened, format)


def measurement_of(table: LatencyTable, file: ModelFile) -> Measurement:
    """What a table has of a model file; raises `ModelError`, with the reason, where nothing."""
    row = table.row("network", file.key)
    if row is None or row.measurement is None:
        reason = row.failure.message if row and row.failure else "it was not reached"
        raise ModelError(f"{file.path} could not be measured: {reason}")
    return row.measurement


@contextlib.contextmanager
def _bench_of_models(
    device: DeviceOrSpec,
    files: Sequence[ModelFile],
    table: str | Path,
    again: Again | None,
    runtime: str | None,
    threads: int,
    options: Mapping[str, str],
) -> Iterator[Bench]:
    """A bench that is ready to measure model files into a table."""
    _check_alike(files, "format", "precision")
    if again is not None:
        again.check([model.key for model in files])
    core_mask = known_core_mask(table)
    with _bench_of_files(device, files, runtime, threads, options, core_mask) as bench:
        yield bench


@contextlib.contextmanager
def _bench_of_files(
    device: DeviceOrSpec,
    files: Sequence[ModelFile],
    runtime: str | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
    core_mask: str = "",
) -> Iterator[Bench]:
    """A bench that is ready for the files, which are of one format."""
    format = files[0].format
    with opened_device(device) as opened:
        config = RuntimeConfig(
            choose_runtime(opened, format) if runtime is None else runtime,
            threads=threads,
            options=options or {},
            core_mask=core_mask,
        )
        if config.runtime not in runtimes_of(format):
            known = ", ".join(runtimes_of(format))
            raise UsageError(f"{config.runtime} cannot load {files[0].path}; use --runtime {known}")
        with open_bench(opened, config, files[0].precision) as bench:
            _models(files, bench)  # says now what cannot be sent
            yield bench


def _models(files: Sequence[ModelFile], bench: Bench) -> list[Workload]:
    return [model_workload(item, alone=bench.session.sends_models) for item in files]


def _check_alike(models: Sequence[ModelFile], *traits: str) -> None:
    """Raise `UsageError` where the files do not share these: they cannot go into one table."""
    first = models[0]
    for model in models:
        for what in traits:
            mine, other = getattr(model, what), getattr(first, what)
            if mine != other:
                raise UsageError(
                    f"{model.path} is {mine}, {first.path} {other}: a table speaks of one {what};"
                    " measure them one after the other, into a table each"
                )
