"""What `lutra profile` measures, a space or model files, and how it tells what came of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.options import parse_runtime_options
from lutra.cli.output import note, print_json, print_table
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.emitters.model_file import ModelFile
    from lutra.profiler.protocols import TimingProtocol
    from lutra.profiler.run import RunSummary
    from lutra.spaces import SearchSpace

DEFAULT_SPACE = "ofa-mbv3-w1.0"
DEFAULT_RESOLUTIONS = "224"
_VISIT_OVERHEAD_SECONDS = 0.01
_SUMMARY_COLUMNS = (
    "table",
    "ops",
    "stable",
    "unstable",
    "partial",
    "failed",
    "seconds",
    "timing %",
)
_MODEL_COLUMNS = ("key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status", "failure")
_WRONG = {
    "shared": "were made while another process used the GPU (flag 'shared'): end it, and measure"
    " into another -o",
    "throttled": "were made while the device held its clocks back (flag 'throttled'): let it cool",
    "clock": "were made below the clock that the device can hold (flag 'clock')",
}

Done = tuple[str, Path, "RunSummary"]  # a device's spec, its table and what its run came to


@dataclass(frozen=True)
class Work(ABC):
    """What to measure, the same on every device; ``runtime`` is None for the device's own."""

    runtime: str | None
    threads: int
    batch: int
    options: Mapping[str, str]
    protocol: TimingProtocol
    budget_seconds: float

    @abstractmethod
    def measure(self, device: Device, table: Path, watch: lutra.Watch) -> RunSummary:
        """Measure on one device."""

    @abstractmethod
    def print_plan(self, specs: Sequence[str], tables: Sequence[Path], as_json: bool) -> None:
        """Say what would be measured."""

    @abstractmethod
    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        """What one device's run came to, for JSON."""

    @abstractmethod
    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        """What came of it, for people."""


@dataclass(frozen=True)
class SpaceWork(Work):
    """Every unique op configuration of a space that a table lacks."""

    space: SearchSpace
    resolutions: tuple[int, ...]
    precision: str

    def measure(self, device: Device, table: Path, watch: lutra.Watch) -> RunSummary:
        return lutra.profile(
            device,
            self.space,
            table,
            resolutions=self.resolutions,
            runtime=self.runtime,
            precision=self.precision,
            threads=self.threads,
            batch=self.batch,
            options=self.options,
            protocol=self.protocol,
            watch=watch,
        )

    def print_plan(self, specs: Sequence[str], tables: Sequence[Path], as_json: bool) -> None:
        plans = [self._plan(table) for table in tables]
        if as_json:
            _print_records(specs, tables, plans)
            return
        rows = [[plan["ops"], plan["missing"], f"{plan['least_seconds']} s"] for plan in plans]
        _print_rows(["ops", "to measure", "at least"], specs, rows, with_spec=len(specs) > 1)

    def _plan(self, table: Path) -> dict[str, Any]:
        from lutra.profiler.profile import missing_keys

        protocol = self.protocol
        missing = len(missing_keys(table, self.space, self.resolutions))
        each = protocol.seconds + protocol.warmup_seconds + _VISIT_OVERHEAD_SECONDS
        return {
            "ops": len(self.space.ops_at(self.resolutions)),
            "missing": missing,
            "least_seconds": round(missing * protocol.rule.min_rounds * each),
        }

    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        return {"table": str(table), **summary.to_json()}

    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        rows = [_summary_row(table, summary) for _, table, summary in done]
        _print_rows(_SUMMARY_COLUMNS, [spec for spec, *_ in done], rows, with_spec=with_spec)
        if any(summary.partial for *_, summary in done):
            note("some ops were not visited often enough; the same command goes on")
        for _, table, summary in done:
            _note_flags(table, summary)
        each = ", and so for each table" if len(done) > 1 else ""
        note(f"next: lutra calibrate {done[0][1]}{each}")


@dataclass(frozen=True)
class ModelWork(Work):
    """Whole model files."""

    models: Sequence[ModelFile]

    def measure(self, device: Device, table: Path, watch: lutra.Watch) -> RunSummary:
        return lutra.profile_models(
            device,
            self.models,
            table,
            runtime=self.runtime,
            threads=self.threads,
            options=self.options,
            protocol=self.protocol,
            watch=watch,
        )

    def print_plan(self, specs: Sequence[str], tables: Sequence[Path], as_json: bool) -> None:
        columns = ["model", "precision", "runtime"]
        plans = []
        for spec in specs:
            runtime = self._runtime_on(spec)
            plans.append([[item.key, item.precision, runtime] for item in self.models])
        if as_json:
            records = [[dict(zip(columns, row, strict=True)) for row in plan] for plan in plans]
            if len(specs) == 1:
                print_json(records[0])
                return
            _print_records(specs, tables, [{"models": found} for found in records])
            return
        owners = [spec for spec, plan in zip(specs, plans, strict=True) for _ in plan]
        rows = [row for plan in plans for row in plan]
        _print_rows(columns, owners, rows, with_spec=len(specs) > 1)

    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        return {"table": str(table), **summary.to_json(), "models": self._rows(table)}

    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        found = [(spec, record) for spec, table, _ in done for record in self._rows(table)]
        rows = [[record[name] or "-" for name in _MODEL_COLUMNS] for _, record in found]
        _print_rows(_MODEL_COLUMNS, [spec for spec, _ in found], rows, with_spec=with_spec)

    def _runtime_on(self, spec: str) -> str:
        from lutra.profiler.bench import choose_runtime

        with lutra.open_device(spec) as device:
            return self.runtime or choose_runtime(device, self.models[0].format)

    def _rows(self, table: Path) -> list[dict[str, Any]]:
        from lutra.tables.frame import row_record

        keys = {model.key for model in self.models}
        with lutra.LatencyTable.open(table) as opened:
            return [row_record(row) for row in opened.rows("network") if row.key in keys]


def space_work(given: dict[str, Any]) -> SpaceWork:
    """The space that the options name; raises `UsageError` for what they cannot mean."""
    from lutra.cli.quantities import parse_resolutions
    from lutra.devices.registry import format_of
    from lutra.emitters.emission import Emission
    from lutra.profiler.protocols import OP_PROTOCOL

    space = lutra.get_space(given["space"] or DEFAULT_SPACE)
    chosen = parse_resolutions(given["resolutions"] or DEFAULT_RESOLUTIONS, space.resolutions)
    space.check_resolutions(chosen)
    precision = given["precision"] or "fp32"
    if given["runtime"] is not None:
        Emission(format_of(given["runtime"]), precision)  # refuses what cannot be, before a start
    return SpaceWork(
        **_how(given, OP_PROTOCOL), space=space, resolutions=chosen, precision=precision
    )


def model_work(paths: Sequence[Path], given: dict[str, Any]) -> ModelWork:
    """The files' models; raises `ModelError` and `UsageError`."""
    from lutra.emitters.model_file import read_model_file
    from lutra.profiler.protocols import NETWORK_PROTOCOL

    models = [read_model_file(path) for path in paths]
    _refuse_space_options(models, given)
    return ModelWork(**_how(given, NETWORK_PROTOCOL), models=models)


def _how(given: dict[str, Any], protocol: TimingProtocol) -> dict[str, Any]:
    """The fields of `Work`; raises `UsageError` for options that cannot be read."""
    from lutra.cli.quantities import parse_budget, parse_seconds

    limit_seconds = parse_seconds(given["time_limit"])
    return {
        "runtime": given["runtime"],
        "threads": given["threads"],
        "batch": given["batch"] or 1,
        "options": parse_runtime_options(given["runtime_options"]),
        "protocol": replace(protocol, seed=given["seed"], limit_seconds=limit_seconds),
        "budget_seconds": parse_budget(given["budget"]),
    }


def _refuse_space_options(models: list[ModelFile], given: dict[str, Any]) -> None:
    for name in ("space", "resolutions"):
        if given[name] is not None:
            raise UsageError(f"--model and --{name} exclude each other: a model file is whole")
    if given["batch"] is not None:
        raise UsageError("--model and --batch exclude each other: a model file has its own")
    for model in models:
        if given["precision"] not in (None, model.precision):
            raise UsageError(
                f"{model.path} is {model.precision}; --precision {given['precision']} cannot"
                " change that"
            )


def _note_flags(table: Path, summary: RunSummary) -> None:
    """Say what was wrong with visits, where a person can do something about it."""
    for flag, reason in _WRONG.items():
        if flag in summary.flags:
            note(f"{table}: {summary.flags[flag]} visits {reason}")


def _summary_row(table: Path, summary: RunSummary) -> list[object]:
    return [
        str(table),
        summary.workloads,
        summary.stable,
        summary.unstable,
        summary.partial,
        summary.failed,
        summary.wall_seconds,
        100.0 * summary.busy_seconds / max(summary.wall_seconds, 1e-9),
    ]


def _print_rows(
    columns: Sequence[str],
    specs: Sequence[str],
    rows: Sequence[list[Any]],
    *,
    with_spec: bool,
) -> None:
    """A table, with the device in front where there are several."""
    if not with_spec:
        print_table(columns, rows)
        return
    print_table(["spec", *columns], [[spec, *row] for spec, row in zip(specs, rows, strict=True)])


def _print_records(
    specs: Sequence[str], tables: Sequence[Path], records: Sequence[dict[str, Any]]
) -> None:
    """One device's record by itself, several with their specs."""
    if len(specs) == 1:
        print_json(records[0])
        return
    found = zip(specs, tables, records, strict=True)
    print_json(
        {
            "devices": [
                {"spec": spec, "table": str(table), **record} for spec, table, record in found
            ]
        }
    )
