"""lutra table show: what a table holds, for people first, every number where asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

import click

import lutra
from lutra.cli.options import as_json, table_argument
from lutra.cli.output import bars, note, print_json, print_table
from lutra.errors import UsageError

_WHERE_KNOWN = {
    "flags": ["flags"],
    "clock_mhz": ["clock_mhz"],
    "device_ms": ["device_ms", "bound"],
    "nodes": ["nodes", "delegated_nodes"],
    "failure": ["failure"],
}
_MEASURED = ["key", "latency_ms", "ci_low_ms", "ci_high_ms", "rounds", "status"]
_IMPORTED = ["key", "resolution", "latency_ms", "runs", "std_ms", "file"]
_READABLE = ["key", "latency_ms", "+-percent", "status"]
Records = list[dict[str, Any]]


@click.command("show")
@table_argument
@click.option(
    "--category",
    type=click.Choice(["op", "network", "reference", "all"]),
    help="Which rows.  [default: op, or network where the table holds no ops]",
)
@click.option(
    "--sort",
    type=click.Choice(["network", "latency", "interval"]),
    default="network",
    show_default=True,
    help="In the network's order by kind, the slowest first, or the least sure first.",
)
@click.option("--filter", "pattern", metavar="PATTERN", help="Rows whose key matches, as *k=7*.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="The first N rows.")
@click.option("--all", "raw", is_flag=True, help="Every row as it was measured, with all columns.")
@as_json
def command(
    table: Path,
    category: str | None,
    sort: str,
    pattern: str | None,
    top: int | None,
    raw: bool,
    as_json: bool,
) -> None:
    """What a table holds: a summary, and its rows in the network's order by kind.

    Failures have a message and no number, imported rows no interval.
    """
    from lutra.tables.documents import CALIBRATION, VALIDATION

    with lutra.LatencyTable.open(table) as opened:
        records = _records(opened, category)
        target, runs = opened.target, opened.runs()
        documents = {name: opened.meta(name) for name in (CALIBRATION, VALIDATION)}
        order = {} if raw or as_json else _order(opened)
    found = _chosen(records, pattern, sort, top, order)
    if as_json:
        print_json({"target": target.to_json(), **documents, "rows": found})
        return
    note(target.summary())
    _note_summary(records, runs, documents)
    imported = any(record["resolution"] is not None for record in found)
    columns = [*(_IMPORTED if imported else _MEASURED if raw else _READABLE)]
    for known, shown in _WHERE_KNOWN.items():
        if any(record[known] not in (None, "") for record in found):
            columns += shown
    rows = [[_value(record, name) for name in columns] for record in found]
    if not (raw or imported) and (drawn := bars([record["latency_ms"] for record in found])):
        columns.append("")
        rows = [[*row, bar] for row, bar in zip(rows, drawn, strict=True)]
    print_table(columns, rows)
    if not records:
        note(f"{table} holds no rows{f' of the category {category}' if category else ''} yet")


def _value(record: dict[str, Any], name: str) -> object:
    if name != "+-percent":
        return record[name]
    half = _half_percent(record)
    return None if half is None else f"{half:.1f}"


def _half_percent(record: dict[str, Any]) -> float | None:
    """Half of a row's 95 % interval, in percent of its latency."""
    if record["ci_low_ms"] is None:
        return None
    return 50.0 * float(record["ci_high_ms"] - record["ci_low_ms"]) / float(record["latency_ms"])


def _records(table: lutra.LatencyTable, category: str | None) -> Records:
    """The rows of a category; of none in particular the ops, or in a table of models those."""
    from lutra.tables.frame import row_record

    rows = table.rows()
    if category is None:
        category = "op" if any(row.category == "op" for row in rows) else "network"
    return [row_record(row) for row in rows if category in (row.category, "all")]


def _order(table: lutra.LatencyTable) -> dict[str, int]:
    """Where each op comes first in the networks of the table's spaces."""
    from lutra.tables.profiled import read_profiled

    order: dict[str, int] = {}
    for name, resolutions in read_profiled(table).spaces.items():
        try:
            space = lutra.get_space(name)
            edges = [edge for each in resolutions for edge in space.lattice(each).edges]
        except UsageError:  # of a package that is not installed here
            continue
        for edge in edges:  # from nodes that are numbered in the network's order
            if edge.op >= 0:
                key = space.ops[edge.op].key
                order[key] = min(edge.source, order.get(key, edge.source))
    return order


def _chosen(
    records: Records, pattern: str | None, sort: str, top: int | None, order: dict[str, int]
) -> Records:
    """The rows that are asked for, sorted; the first ``top`` of them."""
    found = [record for record in records if pattern is None or fnmatchcase(record["key"], pattern)]
    if records and not found:
        raise UsageError(
            f"--filter {pattern}: no key matches; one is {records[0]['key']}, for example"
        )
    if sort == "latency":
        found.sort(key=lambda record: -(record["latency_ms"] or 0.0))
    elif sort == "interval":
        found.sort(key=lambda record: -(_half_percent(record) or 0.0))
    elif order:
        found = _by_kind(found, order)
    return found[:top]


def _by_kind(records: Records, order: dict[str, int]) -> Records:
    """Grouped by kind, kinds and their rows in the network's order; what is no op last."""
    placed = sorted(records, key=lambda record: order.get(record["key"], math.inf))
    kinds: dict[str, Records] = {}
    for record in placed:
        is_op = record["category"] == "op"
        kinds.setdefault(record["key"].partition("/")[0] if is_op else "", []).append(record)
    last = kinds.pop("", [])
    return [record for group in kinds.values() for record in group] + last


def _note_summary(records: Records, runs: Sequence[dict[str, Any]], documents: Any) -> None:
    """What, how many, how sure, how long it took."""
    if not records:
        return
    what = Counter(record["category"] for record in records)
    states = Counter(record["status"] for record in records)
    parts = [", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in what.items())]
    parts.append(", ".join(f"{count} {name}" for name, count in states.items()))
    halves = [half for record in records if (half := _half_percent(record)) is not None]
    if halves:
        parts.append(f"+-{median(halves):.1f} % (median), +-{max(halves):.1f} % at most")
    seconds = [run["wall_seconds"] for run in runs if _is_number(run.get("wall_seconds"))]
    if seconds:
        plural = "s" * (len(seconds) != 1)
        parts.append(f"measured in {len(seconds)} run{plural}, {sum(seconds):.0f} s")
    note("; ".join(parts))
    for name, stored in documents.items():
        for space, document in stored.items() if isinstance(stored, dict) else ():
            percent = document.get("mape_percent") if isinstance(document, dict) else None
            if _is_number(percent):
                note(f"{name} of {space}: networks predicted within {percent:.1f} % on average")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
