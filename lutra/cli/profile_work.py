"""What `lutra profile` can measure, and how it is told for one device or for several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.options import parse_runtime_options
from lutra.cli.output import print_json, print_table

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.profiler.protocols import TimingProtocol
    from lutra.profiler.record import RunSummary

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


def options_of(given: dict[str, Any], protocol: TimingProtocol) -> dict[str, Any]:
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


def print_rows(
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


def print_records(
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
