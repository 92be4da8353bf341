"""Which rows a prediction's interval comes from."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lutra.predictors.efficiency.basis import RowErrors
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.tables import LatencyTable
from tests.search.tiny import TINY

pytestmark = pytest.mark.usefixtures("hollow")


def measured_by(path: Path) -> RowErrors:
    """The tiny space's first ops: within 1 and 10 %, by 6 and 9 visits."""
    with LatencyTable.open(path) as table:
        one = next(row.measurement for row in table.rows("op") if row.measurement)
    rows = {
        op.key: replace(one, latency_ms=2.0, ci_low_ms=2 - half, ci_high_ms=2 + half, rounds=visits)
        for op, half, visits in zip(TINY.ops, (0.02, 0.2), (6, 9), strict=False)
    }
    return RowErrors(TINY, rows, {})


def test_shares_are_of_the_interval_s_square(profiled_once: Path) -> None:
    """The second op is there twice, and wrong both times alike."""
    parts_ms = np.array([2.0, 3.0])
    basis = measured_by(profiled_once).basis(np.array([0, 1, 1]), parts_ms, 10.0, 8.0)
    assert basis is not None
    # 1 % of 2 ms is 0.2 % of 10 ms; twice 10 % of 3 ms is 6 %.
    assert basis.rows_percent == pytest.approx(math.hypot(0.2, 6.0))
    first, second = basis.rows
    assert (first.key, first.visits) == (TINY.ops[1].key, 9)
    assert first.half_width_percent == pytest.approx(10.0)
    assert first.share == pytest.approx(6.0**2 / 8.0**2)
    assert second.share == pytest.approx(0.2**2 / 8.0**2)
    assert basis.rest_share == pytest.approx(1 - (6.0**2 + 0.2**2) / 8.0**2)
    assert not basis.too_narrow
    assert basis.top(1).rows == (first,)


def test_rows_less_sure_than_the_interval_are_told(profiled_once: Path) -> None:
    errors = measured_by(profiled_once)
    narrow = errors.basis(np.array([0, 1]), np.array([2.0, 3.0]), 10.0, 1.0)
    assert narrow is not None
    assert narrow.too_narrow
    assert sum(row.share or 0.0 for row in narrow.rows) == pytest.approx(1.0)
    unknown = errors.basis(np.array([0, 1]), np.array([2.0, 3.0]), 10.0, None)
    assert unknown is not None
    assert unknown.rest_share is None
    assert [row.share for row in unknown.rows] == [None, None]
    assert errors.basis(np.array([2]), np.array([2.0, 3.0, 1.0]), 10.0, 1.0) is None


def test_a_row_s_part_is_what_its_latency_changes(calibrated: Path) -> None:
    """An op that is slower by half of its interval moves the prediction by what its share says."""
    before = EfficiencyPredictor(calibrated)
    architecture = before.space.decode(before.latency.dearest([224])[1])
    basis = before.basis(architecture)
    assert basis is not None
    row = basis.rows[0]
    assert row.share is not None
    high, low = (
        before.predict_one(architecture).high_ms,
        before.predict_one(architecture).latency_ms,
    )
    assert high is not None
    percent = math.sqrt(row.share) * max(100 * (1 - low / high), basis.rows_percent)
    with sqlite3.connect(calibrated) as database:
        database.execute(
            "UPDATE measurements SET latency_ms = latency_ms * ? WHERE subject ="
            " (SELECT id FROM subjects WHERE key = ? AND category = 'op')",
            (1 + row.half_width_percent / 100, row.key),
        )
    database.close()
    after = EfficiencyPredictor(calibrated).predict_one(architecture).latency_ms
    assert 100 * (after / low - 1) == pytest.approx(percent, rel=1e-6)


def test_plain_sums_have_rows_and_no_shares(profiled_once: Path) -> None:
    predictor = EfficiencyPredictor(profiled_once)
    basis = predictor.basis(predictor.space.decode(predictor.latency.dearest([224])[1]))
    assert basis is not None
    assert 0 < basis.rows_percent < max(row.half_width_percent for row in basis.rows)
    assert basis.rest_share is None
