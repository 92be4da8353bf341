"""Targets: others' tables as CSV, JSON lines and Parquet, and lists of networks that were timed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from lutra.errors import UsageError
from lutra.interchange.import_table import import_table
from lutra.interchange.networks_file import read_networks
from lutra.interchange.parquet import read_parquet, write_parquet
from lutra.tables import LatencyTable
from tests.fuzz.grammar import damaged, edited, edited_lines, json_bytes
from tests.fuzz.oracle import require
from tests.fuzz.small_space import NAME, RESOLUTION, small_space, some_rows
from tests.fuzz.tables import _predict_all, _read_all
from tests.fuzz.target import Target

_TABLE, _NETWORKS = "imported.lut", "input.csv"
_UNITS = {"latency_ms": 1.0, "latency_us": 1e-3, "latency_s": 1e3}
Records = list[dict[str, Any]]


def _import(name: str, read: Callable[[bytes], Records], data: bytes) -> None:
    """What was imported is what another reader finds, in ms, and predicts without an interval."""
    Path(name).write_bytes(data)
    space = small_space()
    import_table([name], NAME, _TABLE)
    said = _said(read(data))
    with LatencyTable.open(_TABLE) as table:
        rows = [(row.key, row.imported) for row in table.rows("op") if row.imported]
        require(len(rows) == len(space.ops), f"{len(rows)} rows of {len(space.ops)} ops")
        for key, row in rows:
            values = said.get(key, set())
            require(row.latency_ms in values, f"{key}: {values} were read as {row.latency_ms} ms")
            require(row.std_ms is None or row.std_ms >= 0, f"a deviation of {row.std_ms}")
        _read_all(table)
        _predict_all(table)


def _said(records: Records) -> dict[str, set[float]]:
    """What the records say of each key in ms; what is no number says nothing."""
    said: dict[str, set[float]] = {}
    for record in records:
        for column in _UNITS.keys() & record.keys():
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                value = float(record[column]) * _UNITS[column]
                said.setdefault(str(record.get("key")).strip(), set()).add(value)
    return said


def _csv_records(data: bytes) -> Records:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def _line_records(data: bytes) -> Records:
    lines = data.decode("utf-8-sig").split("\n")
    return [json.loads(text) for text in lines if text.strip()]


@cache
def _records() -> tuple[Records, ...]:
    """Alike for all resolutions and for one, in ms and in us, with what else may stand there."""
    plain = [
        {"key": op.key, "latency_ms": round(0.01 + op.macs / 1e7, 6)} for op in small_space().ops
    ]
    whole = [
        {"category": "op", "key": each["key"], "resolution": RESOLUTION}
        | {"latency_us": 1e3 * float(str(each["latency_ms"])), "runs": 50, "std_ms": 0.001}
        for each in plain
    ]
    return plain, whole


def _csv_text(records: Records) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _json_lines(records: Any) -> bytes:
    lines = records if isinstance(records, list) else [records]
    return b"\n".join(map(json_bytes, lines))


def _parquet(records: Records) -> bytes:
    return write_parquet(list(records[0]), records)


_STRANGE = (
    "", ",", ",,,", '"', '""', '"a', 'a"b', "'", "key", "key,latency_ms", "key;latency_ms",
    "key,key", "key,latency_ms,latency_us", "latency_s", "\ufeff", "\x00", "\x85", "\u2028",
    "=1+1", "x" * 200_000, ",".join("x" * 5000), '"' * 5001, "mbconv,nan", "mbconv,1_0",
    "mbconv,\u0661", "mbconv,0x1", "mbconv,1e400", "{}", "[", "[" * 5000, '{"key": 1}',
)  # fmt: skip


def _csv_grammar() -> SearchStrategy[bytes]:
    return edited_lines([_csv_text(records) for records in _records()], _STRANGE)


def _lines_grammar() -> SearchStrategy[bytes]:
    texts = [_json_lines(records).decode() for records in _records()]
    return st.one_of(edited(_records(), 3).map(_json_lines), edited_lines(texts, _STRANGE))


def _read_networks(data: bytes) -> None:
    """Each network is the space's, and its runs are numbers that stand in the file."""
    Path(_NETWORKS).write_bytes(data)
    space = small_space()
    found = read_networks(_NETWORKS, space)
    cells = {cell for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) for cell in row}
    for architecture, runs_ms in found.runs_ms.items():
        space.encode(architecture)
        for value in runs_ms:
            require(any(_is(cell, value) for cell in cells), f"{value} ms stands nowhere")
    require(all(0 < each < 1e300 for each in found.latencies_ms), "a latency that is none")


def _is(cell: str, value: float) -> bool:
    try:
        return float(cell) == value
    except ValueError:
        return False


@cache
def _networks() -> str:
    space = small_space()
    networks = [json.dumps(space.decode(row).to_ofa()) for row in some_rows()[:12]]
    return _csv_text(
        [
            {"architecture": each, "latency_ms": 1.0 + 0.1 * number}
            for number, each in enumerate([*networks, *networks[:3]])
        ]
    )


def _target(
    name: str,
    ending: str,
    read: Callable[[bytes], Records],
    write: Callable[[Records], bytes],
    grammar: Callable[[], SearchStrategy[bytes]],
) -> Target:
    file = f"input{ending}"
    return Target(
        name,
        partial(_import, file, read),
        grammar,
        lambda: [write(records) for records in _records()],
        leaves=frozenset({file, _TABLE}),
        suite_inputs=40,
    )


TARGETS = [
    _target("csv", ".csv", _csv_records, lambda each: _csv_text(each).encode(), _csv_grammar),
    _target("jsonl", ".jsonl", _line_records, _json_lines, _lines_grammar),
    Target(
        "networks",
        _read_networks,
        lambda: edited_lines([_networks()], _STRANGE),
        lambda: [_networks().encode()],
        leaves=frozenset({_NETWORKS}),
        suite_inputs=40,
    ),
]
with contextlib.suppress(UsageError):  # without the extra's pyarrow
    write_parquet([], [])
    TARGETS.append(
        _target(
            "parquet",
            ".parquet",
            lambda data: read_parquet(data, 1000),
            _parquet,
            lambda: damaged([_parquet(records) for records in _records()]),
        )
    )
