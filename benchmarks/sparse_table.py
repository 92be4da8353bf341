"""What is lost where not every op is measured: errors of networks, beside the whole table's.

Measures a whole table with 20 networks to calibrate on and fresh ones, all in common rounds. From
it tables are taken of which only some ops are known, chosen as `lutra profile --sample` does, and
as many chosen at random; each is filled in, calibrated on the same 20 and asked about the fresh
networks. One more is solved from networks alone, the 20 and half of the fresh ones, and asked about
the others.

    python -m benchmarks.sparse_table                                # onnxruntime fp32
    python -m benchmarks.sparse_table --runtime litert --precision int8
    python -m benchmarks.sparse_table --table kept.lut               # measured before: nothing is
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

import lutra
from lutra.predictors.efficiency.composition import Floats
from lutra.predictors.efficiency.fitting import Fit, Forms, Networks, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.predictors.filling.design import most_informative
from lutra.predictors.filling.fill import fill_in
from lutra.predictors.filling.from_networks import solve_networks
from lutra.spaces import Rows, SearchSpace, get_space
from lutra.tables import LatencyTable
from lutra.tables.profiled import note_profiled, resolutions_of

CALIBRATING = 20
SHARES = (0.05, 0.15, 0.3)
RANDOM_SEEDS = 3


def main() -> None:
    """Print a line for each way of making a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[128, 152, 176, 200, 224])
    parser.add_argument("--fresh", type=int, default=60)
    parser.add_argument("--table", type=Path, help="a table of such a run, made or kept here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.table or Path(folder) / "whole.lut"
        if not path.exists():
            lutra.profile(
                "cpu",
                "ofa-mbv3-w1.0",
                path,
                resolutions=given.resolutions,
                networks=CALIBRATING + given.fresh,
                runtime=given.runtime,
                precision=given.precision,
            )
        with LatencyTable.open(path) as table:
            print(table.target.summary())
            _compare(table)


def _compare(table: LatencyTable) -> None:
    name, resolutions = resolutions_of(table)
    space = get_space(name)
    networks = [
        (space.from_key(row.key), row.measurement.latency_ms)
        for row in table.rows("network")
        if row.measurement is not None
    ]
    rows = np.stack([space.encode(each) for each, _ in networks if each is not None])
    measured_ms = np.array([latency_ms for _, latency_ms in networks])
    known = table.op_latencies()
    ops = len(space.ops_at(resolutions))
    print(f"{ops} ops, {len(rows)} networks, {CALIBRATING} of them to calibrate on")
    heading = ("measured", "chosen", "MAPE %", "of whole", "95 % within", "in it")
    print("{:>14} {:>9} {:>7} {:>8} {:>11} {:>6}".format(*heading))
    whole = _line(table, space, known, rows, measured_ms, "all", "", None)
    for share in SHARES:
        count = round(share * ops)
        keys = [op.key for op in most_informative(space, resolutions, count)]
        _line(table, space, keys, rows, measured_ms, f"{share:.0%}", "by design", whole)
        for seed in range(RANDOM_SEEDS):
            drawn = np.random.default_rng(seed).choice(sorted(known), count, replace=False)
            _line(table, space, drawn, rows, measured_ms, f"{share:.0%}", "randomly", whole)
    half = (CALIBRATING + len(rows)) // 2
    filled, solved = solve_networks(
        space, resolutions, rows[:half], measured_ms[:half], measured_ms[:half, None]
    )
    alone_ms = np.array(
        [filled[op.key].latency_ms if op.key in filled else 0.0 for op in space.ops]
    )
    predicted = space.op_counts(rows[half:]) @ alone_ms + solved.composition.constant_ms
    errors = predicted / measured_ms[half:] - 1.0
    _print(f"{half} networks", "", errors, solved.interval_percent, np.ones(len(errors)), whole)


def _line(
    table: LatencyTable,
    space: SearchSpace,
    keys: Collection[str],
    rows: Rows,
    measured_ms: Floats,
    name: str,
    how: str,
    whole: float | None,
) -> float:
    """Fill in all but some ops, calibrate, and say how far off fresh networks are."""
    networks = _networks(table, space, set(keys), rows)
    first, fresh = (
        replace(networks.take(chosen), measured_ms=measured_ms[chosen])
        for chosen in np.split(np.arange(len(rows)), [CALIBRATING])
    )
    fitted: Fit = fit(first)
    forms = Forms(fitted.composition, spread=fitted.spread)
    errors = forms.predict(fresh) / fresh.measured_ms - 1.0
    return _print(name, how, errors, fitted.interval_percent, forms.widening(fresh), whole)


def _print(
    name: str, how: str, errors: Floats, interval: float, widening: Floats, whole: float | None
) -> float:
    mape = 100.0 * float(np.abs(errors).mean())
    within = np.mean(100.0 * np.abs(errors) <= interval * widening)
    ratio = "" if whole is None else f"{mape / whole:.2f}"
    print(f"{name:>14} {how:>9} {mape:7.2f} {ratio:>8} {interval:11.1f} {within:6.0%}", flush=True)
    return mape


def _networks(
    table: LatencyTable, space: SearchSpace, keys: Collection[str], rows: Rows
) -> Networks:
    """Networks by a copy of the table in which only some ops were measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.lut"
        with LatencyTable.create(path, table.target) as some:
            resolutions = resolutions_of(table, space.name)[1]
            note_profiled(some, None, space.name, resolutions)
            for row in table.rows("op"):
                if row.key in keys and row.measurement is not None:
                    visit = table.visits("op", row.key)[-1]
                    some.record_visit("op", row.key, visit, row.measurement)
            fill_in(some, space, resolutions)
            predictor = EfficiencyPredictor(some, space, plain_sum=True)
            return predictor.networks(rows, np.ones(len(rows)))


if __name__ == "__main__":
    main()
