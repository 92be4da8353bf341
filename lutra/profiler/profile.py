"""Profile into a table: every unique op of a space, or whole model files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lutra.devices.base import RuntimeConfig
from lutra.devices.registry import opened_device, runtimes_of
from lutra.emitters.model_file import ModelFile, read_model_files
from lutra.errors import TableError, UsageError
from lutra.files.kinds import is_there
from lutra.predictors.efficiency.predictor import GPU
from lutra.predictors.filling.design import most_informative
from lutra.predictors.filling.fill import fill_in
from lutra.predictors.filling.prior import store_prior
from lutra.predictors.filling.sample import Sample, prior_for
from lutra.profiler.bench import (
    Bench,
    DeviceOrSpec,
    choose_runtime,
    known_core_mask,
    open_bench,
    open_or_create,
    open_to_read,
)
from lutra.profiler.networks.calibration import calibrate_as_measured, calibrating_networks
from lutra.profiler.protocols import NETWORK_PROTOCOL, OP_PROTOCOL, TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.stopping import Again
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import Workload, model_workload, network_workload, op_workload
from lutra.spaces import SearchSpace, get_space
from lutra.tables import LatencyTable, Target
from lutra.tables.measurement import CALIBRATE
from lutra.tables.profiled import note_profiled, read_profiled, resolutions_of

DEFAULT_RESOLUTIONS = (224,)
DEFAULT_NETWORKS = 20
_VISIT_OVERHEAD_SECONDS = 0.003


@dataclass(frozen=True)
class Plan:
    """What `profile` would measure: so many ``ops``, ``missing`` of them, and ``networks``.

    It takes ``least_seconds`` at least.
    """

    ops: int
    missing: int
    networks: int
    least_seconds: float


def profile(
    device: DeviceOrSpec,
    space: SearchSpace | str,
    table: str | Path,
    *,
    resolutions: Sequence[int] = DEFAULT_RESOLUTIONS,
    networks: int | None = None,
    sample: Sample | None = None,
    prior: str | Path | None = None,
    again: Again | None = None,
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
    none: `calibrate` chooses them by what their ops took. ``again`` says what is measured again
    although it is done.

    With a ``sample`` only the ops are measured that say most of networks, and the others are filled
    in from them, with an interval of their own; a later run without it measures those. A ``prior``,
    a table of the space made with a similar device, is taken to fill in by where that is better,
    and kept in the table.

    Raises `UsageError` (resolution, runtime, option), `TargetMismatchError` (a table of another
    target, a prior of another precision), `DeviceError` and `TableError`; whatever was measured
    before stays in the table.

    >>> summary = profile("cpu", "ofa-mbv3-w1.0", "cpu.lut", watch=Watch(budget_seconds=600))
    >>> summary.workloads, summary.networks, summary.complete
    (116, 20, True)
    """
    space = get_space(space)
    known = prior and prior_for(sample, prior, table, space, precision)
    setting = _Setting(runtime, precision, threads, batch, options or {})
    with _bench_of_space(device, space, table, resolutions, again, setting) as bench:
        count = _count(networks, bench)
        with open_or_create(table, bench.target) as stored:
            note_profiled(stored, bench.device.info().spec, space.name, resolutions)
            if known:
                store_prior(stored, space.name, known)
            watch.on_ready(bench.target)
            covered = resolutions_of(stored, space.name)[1]
            whole = _networks(stored, space, covered, count, bench)
            ops = _ops(space, resolutions, bench, _Asked(sample, stored, protocol, len(whole)))
            workloads = ops + whole
            if again is not None:
                stored.replace_visits(again.chosen(stored, workloads))
            summary = bench.measure(
                stored,
                workloads,
                protocol,
                network_protocol=_in_rounds_of(protocol),
                anchors=_ops(space, covered, bench),
                watch=watch,
            )
            if (sample is not None or stored.filled()) and stored.op_latencies():
                fill_in(stored, space, covered)
            if summary.visits and summary.networks:
                with contextlib.suppress(TableError):  # not all ops, or two networks, yet
                    calibrate_as_measured(stored, space)
            return summary


def plan(
    device: DeviceOrSpec,
    space: SearchSpace | str,
    table: str | Path,
    *,
    resolutions: Sequence[int] = DEFAULT_RESOLUTIONS,
    networks: int | None = None,
    sample: Sample | None = None,
    prior: str | Path | None = None,
    again: Again | None = None,
    runtime: str | None = None,
    precision: str = "fp32",
    threads: int = 1,
    batch: int = 1,
    options: Mapping[str, str] | None = None,
    protocol: TimingProtocol = OP_PROTOCOL,
) -> Plan:
    """What `profile` would do with these arguments; raises what it would, and writes nothing."""
    space = get_space(space)
    _ = prior and prior_for(sample, prior, table, space, precision)
    setting = _Setting(runtime, precision, threads, batch, options or {})
    with _bench_of_space(device, space, table, resolutions, again, setting) as bench:
        wanted = _count(networks, bench)
        if is_there(Path(table)):
            with open_to_read(table, bench.target) as stored:
                covered = sorted({*read_profiled(stored).spaces.get(space.name, ()), *resolutions})
                whole = _networks(stored, space, covered, wanted, bench)
                ops = _ops(space, resolutions, bench, _Asked(sample, stored, protocol, wanted))
                missing, wanted = (_unfinished(stored, found, again) for found in (ops, whole))
        else:
            ops = _ops(space, resolutions, bench, _Asked(sample, None, protocol, wanted))
            missing = len(ops)
        seconds = missing * _least_seconds(protocol, bench)
        seconds += wanted * _least_seconds(_in_rounds_of(protocol), bench)
        return Plan(len(ops), missing, wanted, seconds)


@dataclass(frozen=True)
class _Setting:
    """How models are to run; ``runtime`` is None for the device's own."""

    runtime: str | None
    precision: str
    threads: int
    batch: int
    options: Mapping[str, str]


@contextlib.contextmanager
def _bench_of_space(
    device: DeviceOrSpec,
    space: SearchSpace,
    table: str | Path,
    resolutions: Sequence[int],
    again: Again | None,
    setting: _Setting,
) -> Iterator[Bench]:
    """A bench that is ready to measure ops of a space; raises all that `profile` does before."""
    with opened_device(device) as opened:
        config = RuntimeConfig(
            choose_runtime(opened) if setting.runtime is None else setting.runtime,
            threads=setting.threads,
            batch=setting.batch,
            options=setting.options,
            core_mask=known_core_mask(table),
        )
        space.check_resolutions(resolutions)
        if again is not None:
            again.check([op.key for op in space.ops_at(resolutions)])
        with open_bench(opened, config, setting.precision) as bench:
            yield bench


class _Asked(NamedTuple):
    """A sample of the ops that a table lacks, beside so many networks."""

    sample: Sample | None
    table: LatencyTable | None
    protocol: TimingProtocol
    networks: int


def _ops(
    space: SearchSpace, resolutions: Sequence[int], bench: Bench, asked: _Asked | None = None
) -> list[Workload]:
    """The ops of a space, all or those of a sample that was asked for."""
    ops = space.ops_at(resolutions)
    if asked is not None and asked.sample is not None:
        known = asked.table.op_latencies() if asked.table else {}
        ops = most_informative(
            space, resolutions, _sampled(len(ops), bench, asked), known, asked.networks
        )
    return [op_workload(op, bench.emission) for op in ops]


def _sampled(all_ops: int, bench: Bench, asked: _Asked) -> int:
    """How many ops a sample has; raises `UsageError` where there can be none."""
    assert asked.sample is not None
    if bench.target.device == GPU:
        raise UsageError(
            "on GPUs every op is measured: what the device alone takes and what the host does to"
            " launch it cannot be told from other ops; profile without a sample"
        )
    network_seconds = _least_seconds(_in_rounds_of(asked.protocol), bench)
    op_seconds = _least_seconds(asked.protocol, bench)
    return asked.sample.ops(all_ops, op_seconds, asked.networks * network_seconds)


def _unfinished(table: LatencyTable, workloads: Sequence[Workload], again: Again | None) -> int:
    """How many of the workloads would be measured."""
    settled = {
        (row.category, row.key) for row in table.rows() if row.status in ("stable", "unstable")
    }
    if again is not None:
        settled -= set(again.chosen(table, workloads))
    return sum((workload.category, workload.key) not in settled for workload in workloads)


def _least_seconds(protocol: TimingProtocol, bench: Bench) -> float:
    """What the least number of visits to one workload takes."""
    suited = protocol.suited_to(bench.session)
    each = suited.seconds + suited.warmup_seconds + _VISIT_OVERHEAD_SECONDS
    return suited.rule.min_rounds * each


def _in_rounds_of(ops: TimingProtocol) -> TimingProtocol:
    """How networks are timed in as many rounds as the ops."""
    return replace(NETWORK_PROTOCOL, rule=ops.rule, short_visits=ops.short_visits)


def _networks(
    table: LatencyTable, space: SearchSpace, resolutions: Sequence[int], count: int, bench: Bench
) -> list[Workload]:
    return [
        network_workload(space, architecture, CALIBRATE, bench.emission)
        for architecture in calibrating_networks(table, space, resolutions, count)
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
    """A bench that is ready to measure model files."""
    _check_alike(files)
    if again is not None:
        again.check([model.key for model in files])
    with opened_device(device) as opened:
        config = RuntimeConfig(
            choose_runtime(opened, files[0].format) if runtime is None else runtime,
            threads=threads,
            options=options,
            core_mask=known_core_mask(table),
        )
        if config.runtime not in runtimes_of(files[0].format):
            known = ", ".join(runtimes_of(files[0].format))
            raise UsageError(f"{config.runtime} cannot load {files[0].path}; use --runtime {known}")
        with open_bench(opened, config, files[0].precision) as bench:
            _models(files, bench)  # says now what cannot be sent
            yield bench


def _models(files: Sequence[ModelFile], bench: Bench) -> list[Workload]:
    return [model_workload(item, alone=bench.session.sends_models) for item in files]


def _check_alike(models: Sequence[ModelFile]) -> None:
    """Raise `UsageError` where the files cannot go into one table."""
    first = models[0]
    for model in models:
        for what in ("format", "precision"):
            mine, other = getattr(model, what), getattr(first, what)
            if mine != other:
                raise UsageError(
                    f"{model.path} is {mine}, {first.path} {other}: a table speaks of one {what};"
                    " measure them one after the other, into a table each"
                )
