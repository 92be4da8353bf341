"""`lutra profile --model`: whole model files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.output import print_json
from lutra.cli.profile_work import Done, Work, options_of, print_records, print_rows
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.emitters.model_file import ModelFile
    from lutra.profiler.record import RunSummary

_MODEL_COLUMNS = ("key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status", "failure")


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
            print_records(specs, tables, [{"models": found} for found in records])
            return
        owners = [spec for spec, plan in zip(specs, plans, strict=True) for _ in plan]
        rows = [row for plan in plans for row in plan]
        print_rows(columns, owners, rows, with_spec=len(specs) > 1)

    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        return {"table": str(table), **summary.to_json(), "models": self._rows(table)}

    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        found = [(spec, record) for spec, table, _ in done for record in self._rows(table)]
        rows = [[record[name] or "-" for name in _MODEL_COLUMNS] for _, record in found]
        print_rows(_MODEL_COLUMNS, [spec for spec, _ in found], rows, with_spec=with_spec)

    def _runtime_on(self, spec: str) -> str:
        from lutra.profiler.bench import choose_runtime

        with lutra.open_device(spec) as device:
            return self.runtime or choose_runtime(device, self.models[0].format)

    def _rows(self, table: Path) -> list[dict[str, Any]]:
        from lutra.tables.frame import row_record

        keys = {model.key for model in self.models}
        with lutra.LatencyTable.open(table) as opened:
            return [row_record(row) for row in opened.rows("network") if row.key in keys]


def model_work(paths: Sequence[Path], given: dict[str, Any]) -> ModelWork:
    """The files' models; raises `ModelError` and `UsageError`."""
    from lutra.cli.quantities import parse_shapes
    from lutra.emitters.model_file import read_model_files
    from lutra.profiler.protocols import NETWORK_PROTOCOL

    models = read_model_files(paths, parse_shapes(given["shapes"]))
    _refuse_space_options(models, given)
    return ModelWork(**options_of(given, NETWORK_PROTOCOL), models=models)


def _refuse_space_options(models: list[ModelFile], given: dict[str, Any]) -> None:
    for name in ("space", "resolutions", "networks"):
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
