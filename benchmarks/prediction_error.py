"""How far predictions are from measured networks, against simpler predictors in the same run.

    python -m benchmarks.prediction_error TABLE [--calibrate 20] [--validate 50] [--plot FILE.svg]

Calibrates and validates the table (which stores both), then prints the same error figures for
two baselines on the same validation networks: the plain sum over the table, and latency
proportional to MACs, scaled on the same calibration networks. Then, per resolution, the bias of
lutra and of the plain sum; and how many of the fresh networks lie in the interval that `calibrate`
alone had stated.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.plots import save
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.profiler.bench import bench_of_table
from lutra.profiler.networks.calibration import calibrate_on, validate_on
from lutra.profiler.networks.validation import Validation
from lutra.spaces import Architecture, parse_architecture
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE, VALIDATE


def networks(
    table: LatencyTable, predictor: EfficiencyPredictor, role: str
) -> tuple[list[Architecture], Floats]:
    """Architectures and measured ms (N,) of the table's networks of a role."""
    found = [
        row for row in table.rows("network", role) if row.measurement and not row.measurement.flags
    ]
    architectures = [parse_architecture(json.loads(row.key)) for row in found]
    measured = [row.measurement.latency_ms for row in found if row.measurement]
    return architectures, np.array(measured)


def plot(measured_ms: Floats, predicted_ms: Floats, percent: float, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    axes.axhspan(-percent, percent, color="#dddddd", label="stated by calibrate, 95 %")
    errors = 100.0 * (predicted_ms / measured_ms - 1.0)
    axes.plot(measured_ms, errors, "o", label="fresh networks")
    axes.set(xlabel="measured, ms", ylabel="error of the prediction, %")
    axes.legend()
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--calibrate", type=int, default=20)
    parser.add_argument("--validate", type=int, default=50)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with bench_of_table(arguments.table) as (table, bench):
        fitted = calibrate_on(bench, table, networks=arguments.calibrate)
        validation = validate_on(bench, table, networks=arguments.validate)
        predictor = EfficiencyPredictor(table)
        space = predictor.space
        train, train_ms = networks(table, predictor, CALIBRATE)
        test, test_ms = networks(table, predictor, VALIDATE)
    train_rows, rows = (np.stack([space.encode(item) for item in some]) for some in (train, test))
    scale = float(np.median(train_ms / predictor.macs.of(train_rows)))
    repeatability = validation.repeatability_percent
    plain_ms, predicted_ms = predictor.network_features(rows)[:, 0], predictor.predict(rows)
    results = {
        "lutra": validation,
        "plain sum": Validation.of(plain_ms, test_ms, repeatability),
        "MACs": Validation.of(scale * predictor.macs.of(rows), test_ms, repeatability),
    }
    names = list(asdict(validation))
    print(f"terms: {', '.join(fitted.terms)}")
    print("".join(f"{name:>14}" for name in ["", *results]))
    for name in names:
        values = [getattr(result, name) for result in results.values()]
        print(f"{name.replace('_percent', ' %'):>14.14}" + "".join(f"{v:>14.3f}" for v in values))
    ratio = results["MACs"].mape_percent / validation.mape_percent
    print(f"MAPE of MACs / MAPE of lutra: {ratio:.1f}")
    print("resolution   bias %   of the plain sum %")
    resolutions = np.array([item.r for item in test])
    for resolution in np.unique(resolutions):
        own = resolutions == resolution
        biases = [
            100.0 * float((ms[own] / test_ms[own]).mean() - 1.0) for ms in (predicted_ms, plain_ms)
        ]
        print(f"{resolution:10} {biases[0]:8.2f} {biases[1]:20.2f}")
    stated = fitted.interval_percent
    inside = 100.0 * float((np.abs(predicted_ms / test_ms - 1.0) <= stated / 100.0).mean())
    print(f"in the interval stated by calibrate (+-{stated:.1f} %): {inside:.0f} %")
    if arguments.plot:
        plot(test_ms, predicted_ms, stated, arguments.plot)


if __name__ == "__main__":
    main()
