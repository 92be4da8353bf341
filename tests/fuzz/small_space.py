"""A search space of a few ops, and tables of it: what is read often must be small."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from lutra.profiler.statistics import summarise
from lutra.spaces import Rows, SearchSpace, registry
from lutra.spaces.mbconv_spaces import Family, Head, MBConvSpace, Stage
from lutra.spaces.variant import Variant
from lutra.tables import Failure, LatencyTable, Target, Visit
from lutra.tables.documents import CALIBRATION, VALIDATION, store_document
from lutra.tables.measurement import CALIBRATE, Category
from lutra.tables.profiled import note_profiled

NAME = "fuzzed"
RESOLUTION = 224
TARGET = Target("cpu", "A CPU", "x86_64", "2", "onnxruntime", "1.0", "CPU", "fp32", 1, "2", 1)
GPU = Target("cuda", "A card", "x86_64", "1", "torch", "2.0", "CUDA", "fp32", 1, "any", 1)
_PAGE_BYTES = 512  # the smallest: mutations hit rows, not empty pages


@cache
def _built() -> SearchSpace:
    stage = Stage(8, 2, "relu", se=False, depths=(1, 2))
    family = Family(8, "relu", 8, "relu", True, (stage,), Head(None, 16, "relu"))
    space = MBConvSpace(NAME, family, Variant(classes=10))
    space.resolutions = (RESOLUTION,)
    return space


def small_space() -> SearchSpace:
    """The space; it is known by name without being listed."""
    return registry._SPACES.setdefault(NAME, _built())


@cache
def some_rows() -> Rows:
    """Every architecture of the space."""
    import numpy as np

    space = small_space()
    rows = np.array(list(np.ndindex(*space.choice_counts)), dtype=np.int16)
    return np.unique(space.canonical(rows), axis=0)


@cache
def whole_table(target: Target = TARGET) -> bytes:
    """A table of the space's ops, two networks that calibrated it, references and a failure."""
    space = small_space()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.lut"
        with LatencyTable.create(path, target) as table:
            for number, op in enumerate(space.ops):
                _visit(table, "op", op.key, 0.1 + 0.01 * number)
            for row in some_rows()[:3]:
                _visit(table, "network", space.decode(row).key, 1.5, CALIBRATE)
            _visit(table, "reference", "small", 0.2)
            _visit(table, "reference", space.decode(some_rows()[-1]).key, 1.6)
            table.record_failure("op", "linear/1x1x8-1x1x10", Failure("run", "no", False, 1))
            table.record_run({"command": "profile", "seed": 0})
            note_profiled(table, "cpu", NAME, [RESOLUTION])
            for name, document in documents(on_gpu=target is GPU).items():
                store_document(table, name, NAME, document)
        return _in_small_pages(path)


@cache
def smallest_table() -> bytes:
    """A table of one op and a run: half of its bytes are the schema."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.lut"
        with LatencyTable.create(path, TARGET) as table:
            _visit(table, "op", small_space().ops[0].key, 0.5)
        return _in_small_pages(path)


def _visit(
    table: LatencyTable, category: Category, key: str, low_ms: float, role: str = ""
) -> None:
    visits: list[Visit] = []
    for run in (0, 1):
        visit = Visit(
            run + 1, run + 1, low_ms, low_ms, low_ms, 20, 10, 0.04, 0.0, (), 900.0, low_ms / 2,
            0.0, 0.0, 1, 2, 0.5, run,
        )  # fmt: skip
        visits.append(visit)
        table.record_visit(category, key, visit, summarise(visits), role, (2, 1))


def documents(*, on_gpu: bool = False) -> dict[str, dict[str, Any]]:
    """What `calibrate` and `validate` keep of the space."""
    composition = {
        "scale": 0.9,
        "per_unit_ms": 0.001,
        "border_ms_per_mb": 0.0,
        "weight_ms_per_mb": 0.0,
        "constant_ms": 0.01,
        "per_kernel_ms": 0.0,
        "stages": {},
    }
    calibration = {
        "composition": composition,
        "launch": dict(composition) if on_gpu else None,
        "terms": ["scale"],
        "launch_terms": None,
        "networks": 20,
        "cv_mape_percent": 1.0,
        "cv_p95_percent": 2.5,
        "sum_mape_percent": 9.0,
        "interval_percent": 3.0,
        "elsewhere_percent": 5.0,
        "spread": {
            "columns": [0, 1],
            "covariance": [[1e-4, 0.0, 0.0], [0.0, 1e-6, 0.0], [0.0, 0.0, 1e-4]],
            "noise": 0.01,
            "typical": 0.02,
        },
        "repeatability_percent": 1.0,
        "drifted_networks": 0,
        "interval_resolutions": [RESOLUTION],
    }
    validation = {"networks": 20, "mape_percent": 1.0, "p95_percent": 2.0, "interval_percent": 2.5}
    return {CALIBRATION: calibration, VALIDATION: validation}


def opened(content: bytes) -> sqlite3.Connection:
    """A copy of a table in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(content)
    return connection


def _in_small_pages(path: Path) -> bytes:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("VACUUM")
    connection.close()
    return path.read_bytes()
