"""A device made ready: from a device and how models run on it to runs into a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lutra.devices.base import (
    Device,
    ProcessMemory,
    RequestFailure,
    RuntimeConfig,
    Session,
    TimingRequest,
)
from lutra.devices.registry import format_of, opened_device, runtimes_of
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError, TableError, TransientDeviceError
from lutra.files.kinds import is_there
from lutra.files.scratch import scratch_folder
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.run import ProfilingRun
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import (
    ModelStore,
    Workload,
    reference_network,
    reference_workloads,
)
from lutra.tables import LatencyTable, Target, opened_table
from lutra.tables.profiled import device_of

_ANOTHER_FILE = "Use another -o file, or the setting the table was made with"

_A_MOMENT = 0.001  # seconds: that it runs a few times is enough

DeviceOrSpec = Device | str
"""A device that is open, or the spec string of one that is opened and closed again."""


@dataclass(frozen=True)
class Bench:
    """A device made ready: an open session, the target it stands for, a folder for models."""

    device: Device
    session: Session
    target: Target
    store: ModelStore
    emission: Emission

    def references(self) -> list[Workload]:
        """The references, which tell how the device drifts."""
        batch = self.emission.batch if self.session.clocked else 1
        return reference_workloads(self.emission, batch)

    def measure(
        self,
        table: LatencyTable,
        workloads: Sequence[Workload],
        protocol: TimingProtocol,
        *,
        network_protocol: TimingProtocol | None = None,
        anchors: Sequence[Workload] = (),
        watch: Watch = UNWATCHED,
        reference_ms: Mapping[str, float] | None = None,
    ) -> RunSummary:
        """Measure workloads into a table; raises `TargetMismatchError` if it is another target's.

        All of them in the same shuffled rounds; whole networks are timed by ``network_protocol``
        where there is one. ``anchors`` are workloads that the table may know from runs before.
        ``reference_ms`` is what the references take when the device is steady,
        where known from another table.
        """
        table.target.require(self.target, str(table.path))
        whole = [] if self.session.clocked else [reference_network(self.emission)]
        run = ProfilingRun(
            self.session,
            table,
            self.store,
            protocol.suited_to(self.session),
            network_protocol=network_protocol and network_protocol.suited_to(self.session),
            references=[*self.references(), *whole],
            reference_ms=reference_ms,
            watch=watch,
            other_processes=lambda: self.device.health().other_processes,
        )
        return run.measure(workloads, anchors)

    def process_memory(self, workload: Workload, limit_seconds: float) -> ProcessMemory | None:
        """What a process of its own takes for the workload; None where the device does not tell.

        Raises `ModelError`, and `TransientDeviceError` where it cannot be run.
        """
        path = self.store.path(workload)
        self.session.restart()
        request = TimingRequest(
            0, path, _A_MOMENT, 0.0, limit_seconds=limit_seconds, min_blocks=1, memory=True
        )
        (outcome,) = self.session.measure([request])
        if isinstance(outcome, RequestFailure):
            raise TransientDeviceError(outcome.message)
        return outcome.memory


@contextlib.contextmanager
def open_bench(device: Device, config: RuntimeConfig, precision: str = "fp32") -> Iterator[Bench]:
    """Open a session on the device and name its target.

    Raises `UsageError` for an impossible config and `DeviceError` when the runtime cannot start.
    """
    emission = Emission(format_of(config.runtime), precision, config.batch)
    with (
        scratch_folder() as folder,
        device.open(config) as session,
    ):
        runtime = session.describe()
        target = Target(
            **device.info().fingerprint,
            runtime=runtime.name,
            runtime_version=runtime.version,
            delegate=runtime.delegate,
            precision=precision,
            threads=config.threads,
            core_mask=runtime.core_mask,
            batch=config.batch,
            options=runtime.options,
        )
        yield Bench(device, session, target, ModelStore(folder, emission.format), emission)


@contextlib.contextmanager
def bench_of_table(
    table: LatencyTable | str | Path, device: DeviceOrSpec | None = None
) -> Iterator[tuple[LatencyTable, Bench]]:
    """A table, open for writing, and a bench of its device (or another) with its target."""
    with opened_table(table, write=True) as opened:
        opened.target.require_measurable(str(opened.path))
        with bench_of_target(device or device_of(opened), opened.target) as bench:
            yield opened, bench


@contextlib.contextmanager
def bench_of_target(device: DeviceOrSpec, target: Target) -> Iterator[Bench]:
    """A bench that measures as a target says; raises like `open_bench`."""
    with (
        opened_device(device) as opened,
        open_bench(opened, runtime_config_of(target), target.precision) as bench,
    ):
        yield bench


def choose_runtime(device: Device, format_name: str | None = None) -> str:
    """The device's own first runtime; for a format, the preferred one of those that load it.

    Raises `PermanentDeviceError`, with the device's advice, when it has none.
    """
    offered = device.runtimes()
    if not offered:
        spec = device.info().spec
        remedy = next(iter(device.advice()), "install one on it")
        raise PermanentDeviceError(f"{spec} has no runtime: {remedy}")
    if format_name is None:
        return offered[0]
    loading = runtimes_of(format_name)
    for runtime in loading:
        if runtime in offered:
            return runtime
    raise PermanentDeviceError(
        f"{device.info().spec} has no runtime that loads .{format_name} ({', '.join(loading)});"
        f" it has: {', '.join(offered)}"
    )


def emission_of(target: Target) -> Emission:
    """The format, precision and batch of the models that a target's numbers were measured on.

    Those of `Emission` itself where they are not known, as of an imported table.
    """
    if target.is_imported:
        return Emission()
    return Emission(format_of(target.runtime), target.precision, target.batch)


def runtime_config_of(target: Target) -> RuntimeConfig:
    """The config that a target's numbers were measured with."""
    options = dict(item.split("=", 1) for item in target.options.split(",") if "=" in item)
    return RuntimeConfig(
        target.runtime,
        threads=target.threads,
        batch=target.batch,
        options=options,
        core_mask=target.core_mask,
    )


def known_core_mask(path: str | Path) -> str:
    """The cores that the table in a file speaks of; empty where there is none to read.

    Raises `TargetMismatchError` for an imported table.
    """
    try:
        with LatencyTable.open(path) as table:
            target = table.target
    except TableError:  # what is wrong with it is said where it is opened to be written
        return ""
    target.require_measurable(str(path))
    return target.core_mask


def open_or_create(path: str | Path, target: Target) -> LatencyTable:
    """The table at ``path`` for writing; raises `TargetMismatchError` if it is another target's."""
    path = Path(path)
    if not is_there(path):
        return LatencyTable.create(path, target)
    return _of_target(LatencyTable.open(path, write=True), target)


def open_to_read(path: str | Path, target: Target) -> LatencyTable:
    """The table at ``path``; raises `TargetMismatchError` if it is another target's."""
    return _of_target(LatencyTable.open(path), target)


def _of_target(table: LatencyTable, target: Target) -> LatencyTable:
    try:
        table.target.require(target, str(table.path), _ANOTHER_FILE)
    except BaseException:
        table.close()
        raise
    return table
