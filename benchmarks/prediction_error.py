"""How far predictions are from measured networks, against simpler predictors in the same run.

    python benchmarks/prediction_error.py TABLE [--calibrate 20] [--validate 50]

Calibrates and validates the table (which stores both), then prints the same error figures for
two baselines on the same validation networks: the plain sum over the table, and latency
proportional to MACs, scaled on the same calibration networks.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.profiler.bench import bench_of_table
from lutra.profiler.calibration import Validation, calibrate_on, validate_on
from lutra.spaces import Rows, parse_architecture
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE, VALIDATE


def networks(table: LatencyTable, predictor: EfficiencyPredictor, role: str) -> tuple[Rows, Floats]:
    """Rows (N, genes) and measured ms (N,) of the table's networks of a role."""
    found = [
        row for row in table.rows("network", role) if row.measurement and not row.measurement.flags
    ]
    space = predictor.space
    rows = [space.encode(parse_architecture(json.loads(row.key))) for row in found]
    measured = [row.measurement.latency_ms for row in found if row.measurement]
    return np.stack(rows), np.array(measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--calibrate", type=int, default=20)
    parser.add_argument("--validate", type=int, default=50)
    arguments = parser.parse_args()
    with bench_of_table(arguments.table) as (table, bench):
        fitted = calibrate_on(bench, table, networks=arguments.calibrate)
        validation = validate_on(bench, table, networks=arguments.validate)
        predictor = EfficiencyPredictor(table)
        train, train_ms = networks(table, predictor, CALIBRATE)
        test, test_ms = networks(table, predictor, VALIDATE)
    scale = float(np.median(train_ms / predictor.macs.of(train)))
    repeatability = validation.repeatability_percent
    results = {
        "lutra": validation,
        "plain sum": Validation.of(predictor.network_features(test)[:, 0], test_ms, repeatability),
        "MACs": Validation.of(scale * predictor.macs.of(test), test_ms, repeatability),
    }
    names = list(asdict(validation))
    print(f"terms: {', '.join(fitted.terms)}")
    print("".join(f"{name:>14}" for name in ["", *results]))
    for name in names:
        values = [getattr(result, name) for result in results.values()]
        print(f"{name.replace('_percent', ' %'):>14.14}" + "".join(f"{v:>14.3f}" for v in values))
    ratio = results["MACs"].mape_percent / validation.mape_percent
    print(f"MAPE of MACs / MAPE of lutra: {ratio:.1f}")


if __name__ == "__main__":
    main()
