"""Profile into a table: every unique op of a space, or whole model files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lutra.devices.base import RuntimeConfig
from lutra.devices.registry import opened_device, runtimes_of
from lutra.emitters.model_file import ModelFile, read_model_files
from lutra.errors import TableError, UsageError
from lutra.predictors.efficiency.predictor import GPU
from lutra.profiler.bench import (
    Bench,
    DeviceOrSpec,
    choose_runtime,
    known_core_mask,
    open_bench,
    open_or_create,
)
from lutra.profiler.calibration import calibrate_as_measured, calibrating_networks
from lutra.profiler.protocols import NETWORK_PROTOCOL, OP_PROTOCOL, TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import Workload, model_workload, network_workload, op_workload
from lutra.spaces import SearchSpace, get_space
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE
from lutra.tables.profiled import note_profiled, resolutions_of

DEFAULT_RESOLUTIONS = (224,)
DEFAULT_NETWORKS = 20


def profile(
    device: DeviceOrSpec,
    space: SearchSpace | str,
    table: str | Path,
    *,
    resolutions: Sequence[int] = DEFAULT_RESOLUTIONS,
    networks: int | None = None,
    runtime: str | None = None,
    precision: str = "fp32",
    threads: int = 1,
    batch: int = 1,
    options: Mapping[str, str] | None = None,
    protocol: TimingProtocol = OP_PROTOCOL,
    watch: Watch = UNWATCHED,
) -> RunSummary:
    """Measure what the table in a file lacks of a space; creates the table if need be.

    ``device`` is a spec string (``cpu``, ``adb:SERIAL``) or an open device, ``resolutions`` are in
    pixels, ``runtime`` is by default the device's first, ``threads`` are pinned cores, ``options``
    the runtime's own (``{"xnnpack": "off"}``). Latencies are in ms per run of ``batch`` inputs.

    ``networks`` whole networks, 20 by default, are measured in the same rounds as the ops, so that
    both are of one state of the machine, and the table is calibrated on them. On GPUs there are
    none: `calibrate` chooses them by what their ops took.

    Raises `UsageError` (resolution, runtime, option), `TargetMismatchError` (a table of another
    target), `DeviceError` and `TableError`; whatever was measured before stays in the table.

    >>> summary = profile("cpu", "ofa-mbv3-w1.0", "cpu.lut", watch=Watch(budget_seconds=600))
    >>> summary.workloads, summary.networks, summary.complete
    (116, 20, True)
    """
    space = get_space(space)
    with opened_device(device) as opened:
        config = RuntimeConfig(
            runtime or choose_runtime(opened),
            threads=threads,
            batch=batch,
            options=options or {},
            core_mask=known_core_mask(table),
        )
        space.check_resolutions(resolutions)
        with open_bench(opened, config, precision) as bench:
            count = _count(networks, bench)
            with open_or_create(table, bench.target) as stored:
                note_profiled(stored, opened.info().spec, space.name, resolutions)
                watch.on_ready(bench.target)
                workloads = [op_workload(op, bench.emission) for op in space.ops_at(resolutions)]
                workloads += _networks(stored, space, count, bench)
                covered = resolutions_of(stored, space.name)[1]
                held = [op_workload(op, bench.emission) for op in space.ops_at(covered)]
                summary = bench.measure(
                    stored,
                    workloads,
                    protocol,
                    network_protocol=_in_rounds_of(protocol),
                    anchors=held,
                    watch=watch,
                )
                if summary.visits and summary.networks:
                    with contextlib.suppress(TableError):  # not all ops, or two networks, yet
                        calibrate_as_measured(stored, space)
                return summary


def _in_rounds_of(ops: TimingProtocol) -> TimingProtocol:
    """How networks are timed in as many rounds as the ops."""
    return replace(NETWORK_PROTOCOL, rule=ops.rule, short_visits=ops.short_visits)


def _networks(table: LatencyTable, space: SearchSpace, count: int, bench: Bench) -> list[Workload]:
    """Whole networks at all the resolutions that the table covers."""
    covered = resolutions_of(table, space.name)[1]
    return [
        network_workload(space, architecture, CALIBRATE, bench.emission)
        for architecture in calibrating_networks(table, space, covered, count)
    ]


def _count(networks: int | None, bench: Bench) -> int:
    """How many networks to measure along; raises `UsageError` where there can be none."""
    if bench.target.device != GPU:
        return DEFAULT_NETWORKS if networks is None else networks
    if networks:
        raise UsageError(
            "on GPUs `lutra calibrate` chooses its networks by what the ops took:"
            " profile without networks"
        )
    return 0


def profile_models(
    device: DeviceOrSpec,
    models: Sequence[ModelFile | str | Path],
    table: str | Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    runtime: str | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
) -> RunSummary:
    """Measure whole model files (at least one) into the table in a file, as network rows.

    They must be of one format and precision, as a table speaks of one target; the batch is theirs.
    ``shapes`` gives what ONNX files leave open: an input's sizes (``{"x": (1, 3, 48, 320)}``), or
    one size by its name (``{"batch": (1,)}``); the row's key tells it.
    Raises `ModelError` for a file that is no model or leaves a size open, `UsageError` if they
    differ, the runtime loads another format or a shape does not fit, else as `profile` does.

    >>> export("result.json", "model.onnx")["precision"]
    'fp32'
    >>> profile_models("cpu", ["model.onnx"], "models.lut").workloads
    1
    """
    files = read_model_files(models, shapes)
    first = files[0]
    with opened_device(device) as opened:
        config = RuntimeConfig(
            runtime or choose_runtime(opened, first.format),
            threads=threads,
            options=options or {},
            core_mask=known_core_mask(table),
        )
        _check_models(files, config.runtime)
        with (
            open_bench(opened, config, first.precision) as bench,
            open_or_create(table, bench.target) as stored,
        ):
            watch.on_ready(bench.target)
            workloads = [model_workload(item) for item in files]
            return bench.measure(stored, workloads, protocol, watch=watch)


def _check_models(models: Sequence[ModelFile], runtime: str) -> None:
    for model in models:
        if runtime not in runtimes_of(model.format):
            known = ", ".join(runtimes_of(model.format))
            raise UsageError(f"{runtime} cannot load {model.path}; use --runtime {known}")
        if model.precision != models[0].precision:
            raise UsageError(
                f"{model.path} is {model.precision}, {models[0].path} {models[0].precision}:"
                " a table speaks of one precision; use a table for each"
            )


def missing_keys(path: str | Path, space: SearchSpace, resolutions: Sequence[int]) -> list[str]:
    """The op keys that a profile of these resolutions would still have to finish."""
    wanted = [op.key for op in space.ops_at(resolutions)]
    if not Path(path).exists():
        return wanted
    with LatencyTable.open(path) as table:
        settled = {row.key for row in table.rows("op") if row.status in ("stable", "unstable")}
    return [key for key in wanted if key not in settled]
