"""`lutra profile --model`: whole model files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.output import note
from lutra.cli.profile_work import Done, Work, options_of, print_rows
from lutra.errors import UsageError
from lutra.text import printable_line

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
            again=self.again,
            runtime=self.runtime,
            threads=self.threads,
            options=self.options,
            protocol=self.protocol,
            watch=watch,
        )

    def plan(self, spec: str, table: Path) -> dict[str, Any]:
        from lutra.profiler.networks.model_files import plan_models

        target = plan_models(
            spec,
            self.models,
            table,
            again=self.again,
            runtime=self.runtime,
            threads=self.threads,
            options=self.options,
        )
        return {
            "models": [
                {"model": item.key, "precision": item.precision, "runtime": target.runtime}
                for item in self.models
            ]
        }

    def print_plans(self, plans: Sequence[tuple[str, dict[str, Any]]], *, with_spec: bool) -> None:
        found = [(spec, model) for spec, plan in plans for model in plan["models"]]
        rows = [list(model.values()) for _, model in found]
        columns = ["model", "precision", "runtime"]
        print_rows(columns, [spec for spec, _ in found], rows, with_spec=with_spec)

    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        return {"table": str(table), **summary.to_json(), "models": self._rows(table)}

    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        found = [(spec, record) for spec, table, _ in done for record in self._rows(table)]
        rows = [[record[name] or "-" for name in _MODEL_COLUMNS] for _, record in found]
        print_rows(_MODEL_COLUMNS, [spec for spec, _ in found], rows, with_spec=with_spec)

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
    _note_default_shapes(models)
    return ModelWork(**options_of(given, NETWORK_PROTOCOL), models=models)


def _refuse_space_options(models: list[ModelFile], given: dict[str, Any]) -> None:
    for name in ("space", "resolutions", "networks", "sample", "ops", "prior"):
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


def _note_default_shapes(models: list[ModelFile]) -> None:
    """Say at which sizes a file is timed that leaves some open and takes no others."""
    for model in models:
        if model.shapes and model.shapes_are_its_own:
            shapes = (f"{name} ({', '.join(map(str, sizes))})" for name, sizes in model.shapes)
            note(
                printable_line(
                    f"{model.path} leaves sizes of its inputs open: it is timed at those that stand"
                    f" in for them, {', '.join(shapes)}; convert it with fixed ones to time others"
                )
            )
