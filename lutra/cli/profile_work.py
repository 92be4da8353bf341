"""What `lutra profile` can measure, and how it is told for one device or for several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.options import parse_runtime_options
from lutra.cli.output import note, print_json, print_table
from lutra.errors import LutraError, UsageError
from lutra.text import printable_line

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.profiler.protocols import TimingProtocol
    from lutra.profiler.record import RunSummary
    from lutra.profiler.stopping import Again

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
    again: Again | None

    @abstractmethod
    def measure(self, device: Device, table: Path, watch: lutra.Watch) -> RunSummary:
        """Measure on one device."""

    @abstractmethod
    def plan(self, spec: str, table: Path) -> dict[str, Any]:
        """What would be measured, for JSON; raises what measuring would."""

    @abstractmethod
    def print_plans(self, plans: Sequence[tuple[str, dict[str, Any]]], *, with_spec: bool) -> None:
        """What would be measured on each device, for people."""

    @abstractmethod
    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        """What one device's run came to, for JSON."""

    @abstractmethod
    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        """What came of it, for people."""


def say_plan(work: Work, specs: Sequence[str], tables: Sequence[Path], as_json: bool) -> int:
    """Say what would be measured; the exit code. Of several devices, one may fail alone."""
    records: list[dict[str, Any]] = []
    for spec, table in zip(specs, tables, strict=True):
        try:
            records.append(work.plan(spec, table))
        except LutraError as error:
            if len(specs) == 1:
                raise
            records.append({"error": message_of(spec, error)})
            note(f"error: {spec}: {records[-1]['error']}")
    if as_json:
        print_records(specs, tables, records)
    else:
        plans = [pair for pair in zip(specs, records, strict=True) if "error" not in pair[1]]
        work.print_plans(plans, with_spec=len(specs) > 1)
    return int(any("error" in record for record in records))


def message_of(spec: str, error: BaseException) -> str:
    """What went wrong with a device, without its spec in front."""
    known = isinstance(error, LutraError | OSError)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return printable_line(text).removeprefix(f"{spec}: ")


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
        "again": _again(given["again"]),
    }


def _again(text: str | None) -> Again | None:
    """What ``--again`` means: all, what is older than a time, or the keys of a pattern."""
    from lutra.cli.quantities import is_time, parse_seconds
    from lutra.profiler.stopping import Again

    match text:
        case None:
            return None
        case "all":
            return Again()
        case "":
            raise UsageError(
                "--again names nothing: write all, a pattern of keys, or an age as 30d"
            )
    return Again(older_than_seconds=parse_seconds(text)) if is_time(text) else Again(text)


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
