"""Targets: the bytes of a table, the rows in it, the documents in it."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from lutra.cli.main import run
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.gate import reference_baseline
from lutra.search.question import _anchors
from lutra.tables import LatencyTable, Measurement
from lutra.tables.frame import row_record
from lutra.tables.profiled import read_profiled
from lutra.tables.states import States
from tests.fuzz.grammar import ESCAPES, damaged, edited_json, hostile_values, json_bytes
from tests.fuzz.oracle import require, said
from tests.fuzz.small_space import (
    GPU,
    NAME,
    documents,
    opened,
    small_space,
    smallest_table,
    some_rows,
    whole_table,
)
from tests.fuzz.target import Target

_FILE = "input.lut"


# what is asked of a table


def _read_all(table: LatencyTable) -> None:
    """Everything that commands read of a table; latencies are finite and above zero."""
    _ = table.target.summary()
    for row in table.rows():
        _ = row_record(row)
        if row.measurement is not None:
            _require_sound(row.measurement)
    states = States(table)
    for category in ("op", "network", "reference"):
        for (_, key), visits in table.all_visits(category).items():
            for visit in [*visits, *states.brought(category, visits), *table.visits(category, key)]:
                for value in (visit.low_ms, visit.median_ms, visit.minimum_ms):
                    _require_latency(value, "a visit")
    for value in reference_baseline(table).values():
        _require_latency(value, "a reference")
    _ = (table.runs(), table.last_process(), table.last_run(), read_profiled(table))
    for value in _anchors(table, small_space()).values():
        _require_latency(value, "an anchor")


def _require_sound(measurement: Measurement) -> None:
    for name in ("latency_ms", "ci_low_ms", "ci_high_ms", "median_ms", "minimum_ms"):
        _require_latency(getattr(measurement, name), name)
    if measurement.device_ms is not None:
        _require_latency(measurement.device_ms, "device_ms")
    _ = (measurement.half_width, measurement.bound)


def _require_latency(value: Any, what: str) -> None:
    require(
        isinstance(value, float) and math.isfinite(value) and value > 0, f"{what} is {value!r} ms"
    )


def _predict_all(table: LatencyTable) -> None:
    """Predict every architecture; what is known is finite and above zero, within its interval."""
    predictor = EfficiencyPredictor(table, NAME)
    latencies = predictor.predict(some_rows())
    known = latencies[~np.isnan(latencies)]
    require(bool(np.all(np.isfinite(known) & (known > 0))), "a network is predicted at 0 or less")
    architecture = predictor.space.decode(some_rows()[0])
    found = predictor.predict_one(architecture)
    _require_latency(found.latency_ms, "a prediction")
    for value in (found.low_ms, found.high_ms):
        if value is not None:
            _require_latency(value, "an end of an interval")
    if found.low_ms is not None and found.high_ms is not None:
        require(found.low_ms <= found.latency_ms <= found.high_ms, f"not in its interval: {found}")
    parts = [op.predicted_ms for op in predictor.breakdown(architecture)]
    total = math.fsum([*parts, predictor.constant_ms(architecture)])
    least = 1e-9 * max(1.0, *map(abs, parts))
    require(abs(total - found.latency_ms) <= least, f"{total} ms in parts, {found.latency_ms} ms")


# the bytes of a file


def _read_bytes(data: bytes) -> None:
    Path(_FILE).write_bytes(data)
    small_space()
    with LatencyTable.open(_FILE) as table:
        _read_all(table)
        _predict_all(table)


def _table_seeds() -> list[bytes]:
    return [smallest_table(), whole_table(), whole_table(GPU)]


# hostile rows: a script of edits, applied to a whole table


def _edit_and_read(data: bytes) -> None:
    Path(_FILE).write_bytes(whole_table())
    _apply(_script(data))
    small_space()
    said(lambda: run(["table", "show", _FILE, "--category", "all"]))
    with LatencyTable.open(_FILE) as table:
        _read_all(table)
        _predict_all(table)


def _script(data: bytes) -> list[Any]:
    """The edits that an input asks for; none where it is no script."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return document if isinstance(document, list) else []


def _apply(script: Sequence[Any]) -> None:
    """Make the edits that SQLite allows: ``[table, column, row, value]`` or a statement."""
    connection = sqlite3.connect(_FILE, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    with contextlib.closing(connection):
        for edit in script[:8]:
            with contextlib.suppress(sqlite3.Error, ValueError, OverflowError, TypeError):
                if isinstance(edit, str) and edit in _STATEMENTS:
                    connection.execute(edit)
                elif isinstance(edit, list) and _names_a_column(edit):
                    table, column, row, value = edit
                    mark = "CAST(? AS TEXT)" if _is_raw(value) else "?"
                    connection.execute(
                        f"UPDATE {table} SET {column} = {mark}"
                        f" WHERE rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET"
                        f" ? % (SELECT count(*) FROM {table}))",
                        (bytes.fromhex(value["hex"]) if _is_raw(value) else value, row),
                    )


def _names_a_column(edit: list[Any]) -> bool:
    return all(isinstance(name, str) for name in edit[:2]) and tuple(edit[:2]) in _columns()


def _is_raw(value: Any) -> bool:
    """Whether a value stands for text that is not UTF-8."""
    return isinstance(value, dict) and isinstance(value.get("hex"), str)


@cache
def _columns() -> frozenset[tuple[str, str]]:
    """Every table and column of the schema."""
    with contextlib.closing(opened(whole_table())) as connection:
        query = "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c"
        return frozenset(connection.execute(query + " WHERE t.type = 'table'"))


_EXPENSIVE = "length(printf('%.*c', 400000000, 'x')) > 0"
_STATEMENTS = (
    "DELETE FROM meta",
    "DELETE FROM measurements",
    "DELETE FROM subjects",
    "DELETE FROM visits WHERE run = 0",
    "INSERT INTO failures SELECT id, 'run', 'x', 0, 1, '' FROM subjects",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 4",
    "PRAGMA user_version = -4",
    "PRAGMA user_version = 2147483647",
    "PRAGMA application_id = 0",
    "CREATE TRIGGER t AFTER INSERT ON visits BEGIN DELETE FROM visits; END",
    "DROP TABLE runs",
    "CREATE VIEW v AS SELECT 1",
    "ALTER TABLE visits ADD COLUMN more REAL",
    "CREATE INDEX i ON visits (abs(low_ms))",
    f"CREATE TABLE slow (a CHECK ({_EXPENSIVE}))",
    "INSERT INTO slow VALUES (1), (2), (3), (4), (5), (6), (7), (8)",
    f"CREATE TABLE derived (a, b AS ({_EXPENSIVE}) STORED)",
    "CREATE VIRTUAL TABLE words USING fts5(a)",
)


@st.composite
def _scripts(draw: DrawFn) -> bytes:
    columns = sorted(_columns())
    edits: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 4)) == 0:
            edits.append(draw(st.sampled_from(_STATEMENTS)))
            continue
        table, column = columns[draw(st.integers(0, len(columns) - 1))]
        value = draw(st.sampled_from(_VALUES) | hostile_values())
        edits.append([table, column, draw(st.integers(0, 60)), value])
    return json_bytes(edits)


_VALUES: tuple[Any, ...] = (
    "@raw3@",  # infinity
    "@raw4@",
    5e-324,
    1.7e308,
    -1.0,
    2**63 - 1,
    -(2**63),
    {"hex": "ff00c328"},
    ESCAPES,
    "network",
    "calibrate",
    "{}",
    "[1]",
    '{"ks":[NaN]}',
    "{" * 2000,
    '{"spaces": {"fuzzed": [224]}, "device": 5}',
)


# hostile documents


def _read_documents(data: bytes) -> None:
    """Documents by their names in a table; what is not JSON stands for the calibration's text."""
    stored = _stored(data)
    for content in (whole_table(), whole_table(GPU)):
        with contextlib.closing(opened(content)) as connection:
            for name, text in stored.items():
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, text))
            small_space()
            table = LatencyTable(Path(_FILE), connection, None)
            _ = table.target
            _predict_all(table)


def _stored(data: bytes) -> dict[str, str]:
    text = data.decode("utf-8", "replace")
    try:
        document = json.loads(data)
        if isinstance(document, dict):
            return {
                name.encode("utf-8", "replace").decode(): json.dumps(value)
                for name, value in document.items()
            }
    except (ValueError, RecursionError):
        pass
    return {"calibration": text}


def _document_seeds() -> list[bytes]:
    return [json_bytes(document) for document in _whole_documents()]


def _whole_documents() -> list[dict[str, Any]]:
    return [
        {
            **{name: {NAME: document} for name, document in documents(on_gpu=on_gpu).items()},
            "profiled": {"device": "cpu", "spaces": {NAME: [224]}},
        }
        for on_gpu in (False, True)
    ]


def _document_grammar() -> SearchStrategy[bytes]:
    return edited_json(_whole_documents())


TARGETS = (
    Target(
        "tables",
        _read_bytes,
        lambda: damaged(_table_seeds()),
        _table_seeds,
        leaves=frozenset({_FILE}),
    ),
    Target(
        "rows",
        _edit_and_read,
        _scripts,
        lambda: [b"[]", json_bytes(list(_STATEMENTS)), json_bytes([["meta", "value", 0, "{}"]])],
        leaves=frozenset({_FILE}),
        examples=(
            json_bytes([["measurements", "latency_ms", 0, "@raw3@"]]),
            json_bytes([["measurements", "device_ms", 3, 5e-324]]),
            json_bytes([["visits", "low_ms", 5, 1.7e308]]),
            json_bytes([["runs", "document", 0, "[1]"], ["subjects", "key", 16, "x"]]),
            json_bytes([*_STATEMENTS[-4:-2]]),
        ),
        suite_inputs=40,
    ),
    Target("calibrations", _read_documents, _document_grammar, _document_seeds),
)
