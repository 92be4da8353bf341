"""Profile into a table: every unique op configuration of a space, or whole model files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lutra.devices.base import Device, Setting
from lutra.devices.registry import runtimes_of
from lutra.emitters.model_file import ModelFile
from lutra.errors import UsageError
from lutra.profiler.job import open_bench, open_or_create
from lutra.profiler.run import Progress, Protocol, RunSummary
from lutra.profiler.subject import model_subject, op_subject
from lutra.search.networks import NETWORK_PROTOCOL
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable, Target
from lutra.tables.profiled import note_profiled


def profile(
    device: Device,
    path: Path,
    space: SearchSpace,
    resolutions: Sequence[int],
    *,
    setting: Setting,
    precision: str = "fp32",
    protocol: Protocol | None = None,
    budget_seconds: float = float("inf"),
    on_ready: Callable[[Target], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> RunSummary:
    """Measure what the table at ``path`` lacks of the space; creates the table if need be.

    ``on_ready`` is told what it runs on once the session and the table are open, ``on_progress``
    after each visit; ``sleep`` lets the device cool. What one of them raises ends the run.

    Raises `UsageError` (resolution, setting), `TargetMismatchError` (a table of another target),
    `DeviceError` and `TableError`; whatever was measured before stays in the table.
    """
    space.check_resolutions(resolutions)
    with (
        open_bench(device, setting, precision) as bench,
        open_or_create(path, bench.target) as table,
    ):
        note_profiled(table, device.info().spec, space.name, resolutions)
        on_ready(bench.target)
        subjects = [op_subject(op, bench.emission) for op in space.units_at(resolutions)]
        return bench.measure(
            table,
            subjects,
            protocol or Protocol(),
            budget_seconds=budget_seconds,
            on_progress=on_progress,
            sleep=sleep,
        )


def profile_models(
    device: Device,
    path: Path,
    models: Sequence[ModelFile],
    *,
    setting: Setting,
    protocol: Protocol = NETWORK_PROTOCOL,
    budget_seconds: float = float("inf"),
    on_ready: Callable[[Target], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> RunSummary:
    """Measure whole model files into the table at ``path``, as network rows.

    They must be of one format and precision, as a table speaks of one target. Raises `UsageError`
    if they are not or the runtime loads another format, else as `profile` does.
    """
    for model in models:
        if setting.runtime not in runtimes_of(model.format):
            known = ", ".join(runtimes_of(model.format))
            raise UsageError(f"{setting.runtime} cannot load {model.path}; use --runtime {known}")
        if model.precision != models[0].precision:
            raise UsageError(
                f"{model.path} is {model.precision}, {models[0].path} {models[0].precision}:"
                " a table speaks of one precision; use a table for each"
            )
    with (
        open_bench(device, setting, models[0].precision) as bench,
        open_or_create(path, bench.target) as table,
    ):
        on_ready(bench.target)
        return bench.measure(
            table,
            [model_subject(model) for model in models],
            protocol,
            budget_seconds=budget_seconds,
            on_progress=on_progress,
            sleep=sleep,
        )


def missing_keys(path: Path, space: SearchSpace, resolutions: Sequence[int]) -> list[str]:
    """The op keys that a profile of these resolutions would still have to finish."""
    wanted = [op.key for op in space.units_at(resolutions)]
    if not path.exists():
        return wanted
    with LatencyTable.open(path) as table:
        settled = {row.key for row in table.rows("op") if row.status in ("stable", "unstable")}
    return [key for key in wanted if key not in settled]
