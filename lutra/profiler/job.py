"""From a device and settings to an open session, its target and a run into a table."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lutra.devices.base import Device, Session, Setting
from lutra.devices.registry import format_of, runtimes_of
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError
from lutra.profiler.run import ProfilingRun, Progress, Protocol, RunSummary
from lutra.profiler.subject import ModelStore, Subject, reference_subjects
from lutra.tables import LatencyTable, Target
from lutra.tables.drift import Drift


@dataclass(frozen=True)
class Bench:
    """A device made ready: an open session, the target it stands for, a folder for models."""

    device: Device
    session: Session
    target: Target
    store: ModelStore
    emission: Emission

    def references(self) -> list[Subject]:
        """The blocks that tell how the device drifts."""
        batch = self.emission.batch if self.session.clocked else 1
        return reference_subjects(self.emission, batch)

    def measure(
        self,
        table: LatencyTable,
        subjects: Sequence[Subject],
        protocol: Protocol,
        *,
        budget_seconds: float = float("inf"),
        reference_ms: Mapping[str, float] | None = None,
        drift: Drift | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> RunSummary:
        """Measure subjects into a table; raises `TargetMismatchError` if it is another target's.

        ``reference_ms`` is what the references take when the device is steady, and ``drift`` how
        latencies follow them, where known from another table. ``on_progress`` is called after
        each visit and ``sleep`` to let the device cool; what they raise ends the run.
        """
        table.target.require(self.target, str(table.path))
        run = ProfilingRun(
            self.session,
            table,
            self.store,
            protocol.suited_to(self.session),
            references=self.references(),
            reference_ms=reference_ms,
            drift=drift,
            on_progress=on_progress,
            sleep=sleep,
        )
        return run.measure(subjects, budget_seconds=budget_seconds)


@contextlib.contextmanager
def open_bench(device: Device, setting: Setting, precision: str = "fp32") -> Iterator[Bench]:
    """Open a session on the device and name its target.

    Raises `UsageError` for an impossible setting and `DeviceError` when the runtime cannot start.
    """
    emission = Emission(format_of(setting.runtime), precision, setting.batch)
    with (
        tempfile.TemporaryDirectory(prefix="lutra-") as folder,
        device.open(setting) as session,
    ):
        runtime = session.describe()
        target = Target(
            **device.info().fingerprint,
            runtime=runtime.name,
            runtime_version=runtime.version,
            delegate=runtime.delegate,
            precision=precision,
            threads=setting.threads,
            core_mask=runtime.core_mask,
            batch=setting.batch,
            options=runtime.options,
        )
        yield Bench(device, session, target, ModelStore(Path(folder), emission.format), emission)


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
    """How the models of a table's numbers were made."""
    return Emission(format_of(target.runtime), target.precision, target.batch)


def setting_of(target: Target) -> Setting:
    """The setting that a table's numbers were measured with."""
    options = dict(item.split("=", 1) for item in target.options.split(",") if "=" in item)
    return Setting(target.runtime, threads=target.threads, batch=target.batch, options=options)


def open_or_create(path: Path, target: Target) -> LatencyTable:
    """The table at ``path`` for writing; raises `TargetMismatchError` if it is another target's."""
    if not path.exists():
        return LatencyTable.create(path, target)
    table = LatencyTable.open(path, write=True)
    try:
        table.target.require(target, str(path))
    except BaseException:
        table.close()
        raise
    return table
