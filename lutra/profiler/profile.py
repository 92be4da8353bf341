"""Profile into a table: every unique op of a space, or some of them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lutra.devices.base import Device, RuntimeConfig
from lutra.devices.registry import opened_device
from lutra.errors import TableError, UsageError
from lutra.files.kinds import is_there
from lutra.ops import OpConfig
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
from lutra.profiler.stopping import Again, standing
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import Workload, network_workload, op_workload
from lutra.spaces import SearchSpace, get_space
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE, Category
from lutra.tables.profiled import note_profiled, read_profiled, resolutions_of
from lutra.text import printable_line

DEFAULT_RESOLUTIONS = (224,)
DEFAULT_NETWORKS = 20
_SAMPLED_SHORT_VISITS = 1  # docs/decisions.md: What a sample does with less of
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
    ops: Collection[str] | None = None,
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
    and kept in the table. ``ops`` are the keys of those that are measured, where not all of the
    space's are wanted.

    Raises `UsageError` (resolution, op, runtime, option), `TargetMismatchError` (a table of another
    target, a prior of another precision), `DeviceError` and `TableError`; whatever was measured
    before stays in the table.

    >>> summary = profile("cpu", "ofa-mbv3-w1.0", "cpu.lut", watch=Watch(budget_seconds=600))
    >>> summary.workloads, summary.networks, summary.complete
    (116, 20, True)
    """
    space = get_space(space)
    named = _named(space, resolutions, ops, sample)
    protocol = _protocol_for(sample, protocol)
    known = prior and prior_for(sample, prior, table, space, precision)
    setting = _Setting(runtime, precision, threads, batch, options or {})
    with _bench_of_space(device, space, table, resolutions, networks, again, setting) as bench:
        count = _count(networks, bench)
        with open_or_create(table, bench.target) as stored:
            note_profiled(stored, bench.device.info().spec, space.name, resolutions)
            if known:
                store_prior(stored, space.name, known)
            watch.on_ready(bench.target)
            covered = resolutions_of(stored, space.name)[1]
            whole = _networks(stored, space, covered, count, bench)
            asked = _Asked(sample, stored, protocol, len(whole), named)
            workloads = _ops(space, resolutions, bench, asked) + whole
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
    ops: Collection[str] | None = None,
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
    named = _named(space, resolutions, ops, sample)
    protocol = _protocol_for(sample, protocol)
    _ = prior and prior_for(sample, prior, table, space, precision)
    setting = _Setting(runtime, precision, threads, batch, options or {})
    with _bench_of_space(device, space, table, resolutions, networks, again, setting) as bench:
        wanted = _count(networks, bench)
        if is_there(Path(table)):
            with open_to_read(table, bench.target) as stored:
                covered = sorted({*read_profiled(stored).spaces.get(space.name, ()), *resolutions})
                whole = _networks(stored, space, covered, wanted, bench)
                asked = _Asked(sample, stored, protocol, wanted, named)
                own = _ops(space, resolutions, bench, asked)
                settled = _settled(stored, _least_rounds(protocol, bench))
                missing, wanted = (
                    _unfinished(stored, found, again, settled) for found in (own, whole)
                )
        else:
            own = _ops(space, resolutions, bench, _Asked(sample, None, protocol, wanted, named))
            missing = len(own)
        seconds = missing * _least_seconds(protocol, bench)
        seconds += wanted * _least_seconds(_in_rounds_of(protocol), bench)
        return Plan(len(own), missing, wanted, seconds)


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
    networks: int | None,
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
        if networks:
            _require_no_gpu(opened)
        if again is not None:
            again.check([op.key for op in space.ops_at(resolutions)])
        with open_bench(opened, config, setting.precision) as bench:
            yield bench


class _Asked(NamedTuple):
    """A sample of the ops that a table lacks, beside so many networks, or ops that are named."""

    sample: Sample | None
    table: LatencyTable | None
    protocol: TimingProtocol
    networks: int
    named: list[OpConfig] | None


def _ops(
    space: SearchSpace, resolutions: Sequence[int], bench: Bench, asked: _Asked | None = None
) -> list[Workload]:
    """The ops of a space, all or those that were asked for."""
    if asked is not None and asked.named is not None:
        ops = asked.named
    else:
        ops = space.ops_at(resolutions)
    if asked is not None and asked.sample is not None:
        known = asked.table.op_latencies() if asked.table else {}
        ops = most_informative(
            space, resolutions, _sampled(len(ops), bench, asked), known, asked.networks
        )
    return [op_workload(op, bench.emission) for op in ops]


def _named(
    space: SearchSpace,
    resolutions: Sequence[int],
    keys: Collection[str] | None,
    sample: Sample | None,
) -> list[OpConfig] | None:
    """The ops of these keys; raises `UsageError` for keys that the space does not have."""
    if keys is None:
        return None
    if sample is not None:
        raise UsageError("a sample chooses its ops itself: leave it out, or the ops")
    named = {key: None for key in keys}
    ops = [op for op in space.ops_at(resolutions) if op.key in named]
    if foreign := named.keys() - {op.key for op in ops}:
        raise UsageError(
            f"{len(foreign)} of the {len(named)} named ops are none of the space's at these"
            f" resolutions, such as {printable_line(min(foreign))[:120]}"
        )
    return ops


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


def _protocol_for(sample: Sample | None, protocol: TimingProtocol) -> TimingProtocol:
    """How all is timed in a run that has such a sample."""
    return replace(protocol, short_visits=_SAMPLED_SHORT_VISITS) if _fills_in(sample) else protocol


def _fills_in(sample: Sample | None) -> bool:
    """Whether other ops are filled in from a sample's; networks alone tell all themselves."""
    return sample is not None and sample.share != 0.0


def _settled(table: LatencyTable, least_rounds: int) -> set[tuple[Category, str]]:
    """What is done, by category and key: a sample visits in fewer rounds than a run."""
    visits = table.all_visits("op") | table.all_visits("network")
    return {
        key
        for row in table.rows()
        if row.status in ("stable", "unstable")
        and len(standing(visits.get(key := (row.category, row.key), ()))) >= least_rounds
    }


def _unfinished(
    table: LatencyTable,
    workloads: Sequence[Workload],
    again: Again | None,
    settled: set[tuple[Category, str]],
) -> int:
    """How many of the workloads would be measured."""
    if again is not None:
        settled = settled - set(again.chosen(table, workloads))
    return sum((workload.category, workload.key) not in settled for workload in workloads)


def _least_seconds(protocol: TimingProtocol, bench: Bench) -> float:
    """What the least number of visits to one workload takes."""
    suited = protocol.suited_to(bench.session)
    each = suited.seconds + suited.warmup_seconds + _VISIT_OVERHEAD_SECONDS
    return _least_rounds(protocol, bench) * each


def _least_rounds(protocol: TimingProtocol, bench: Bench) -> int:
    """The least number of visits to one workload."""
    return protocol.suited_to(bench.session).rule.min_rounds


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


def _require_no_gpu(device: Device) -> None:
    """Raise `UsageError` where no networks can be measured along."""
    if device.info().fingerprint["device"] == GPU:
        raise UsageError(
            "on GPUs `lutra calibrate` chooses its networks by what the ops took:"
            " profile without networks"
        )


def _count(networks: int | None, bench: Bench) -> int:
    """How many networks to measure along."""
    if networks is None:
        return 0 if bench.target.device == GPU else DEFAULT_NETWORKS
    return networks
