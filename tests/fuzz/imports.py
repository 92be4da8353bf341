"""Target: OFA's latency tables, imported and predicted by."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from lutra.interchange.import_table import import_table
from lutra.interchange.ofa_keys import DIALECTS
from lutra.tables import LatencyTable
from tests.fuzz.grammar import edited, edited_lines, json_bytes
from tests.fuzz.oracle import require
from tests.fuzz.small_space import NAME, RESOLUTION, small_space
from tests.fuzz.tables import _predict_all, _read_all
from tests.fuzz.target import Target

_FILE, _TABLE = "input.yaml", "imported.lut"


def _import(data: bytes) -> None:
    """What was imported is what a YAML loader finds, and predicts without an interval."""
    Path(_FILE).write_bytes(data)
    space = small_space()
    import_table([_FILE], NAME, _TABLE)
    document = yaml.load(data, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    with LatencyTable.open(_TABLE) as table:
        rows = [row.imported for row in table.rows("op") if row.imported]
        require(len(rows) == len(space.ops), f"{len(rows)} rows of {len(space.ops)} ops")
        for row in rows:
            said = float(document[row.entry]["mean"]) if row.entry else 0.0
            require(row.latency_ms == said, f"{row.entry}: {said} was read as {row.latency_ms}")
            require(row.std_ms is None or row.std_ms >= 0, f"a deviation of {row.std_ms}")
        _read_all(table)
        _predict_all(table)


@cache
def _documents() -> list[dict[str, Any]]:
    found = []
    for dialect in DIALECTS:
        keys = dialect.keys(small_space(), RESOLUTION)
        found.append(
            {
                key: {"count": 500, "mean": round(0.01 + op.macs / 1e7, 6), "std": 0.001}
                for op, key in keys.items()
                if key is not None
            }
        )
    return found


def _seeds() -> list[bytes]:
    return [*map(json_bytes, _documents()), *(text.encode() for text in _texts())]


@cache
def _texts() -> list[str]:
    """As the authors' files are written."""
    return [yaml.safe_dump(document, width=1000) for document in _documents()]


_STRANGE = (
    "", "---", "...", "- a", "? [a, b]", ": x", "&a *a", "B: &x {mean: 1}", "C: *x", "<<: *x",
    "B: !!python/object/apply:os.system [x]", "  mean: !!float 1", "  mean: 1e-400", "  mean: .inf",
    "  mean: 0x10", "  mean: 1_000", "  mean: 1:30", "  mean: 2026-01-01", "  mean: |",
    "  mean: '1'", "  mean: {a: 1}", "  var: -1", "  count: 1e9", "%YAML 9.9", "%TAG ! x",
    "\ufeff", "\x00", "\t",
    "[" * 2000, "{a: " * 500, "- " * 2000, "? " * 500, "B: " + "x" * 5000, "# \x1b[2J", "\x85",
)  # fmt: skip


@st.composite
def _other_lines(draw: DrawFn) -> bytes:
    return draw(edited_lines(_texts(), _STRANGE))


def _grammar() -> SearchStrategy[bytes]:
    return st.one_of(edited(_documents(), 3).map(json_bytes), _other_lines())


TARGETS = (Target("imports", _import, _grammar, _seeds, leaves=frozenset({_FILE, _TABLE})),)
