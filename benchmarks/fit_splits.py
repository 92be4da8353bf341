"""How well networks of stored tables predict each other: the fit, on random splits.

    python -m benchmarks.fit_splits TABLE... [--fit 20] [--splits 30]

Nothing is measured. Of the networks that a table holds, some are fitted on and the others
predicted, many times over. Baselines in the same splits: the plain sum, and the fit without a
correction for each stage. Beside the errors: in how many of 100 the fresh networks lie in the
interval that the fit states, and its width.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.prediction_error import networks
from lutra.predictors.efficiency.composition import TERMS
from lutra.predictors.efficiency.fitting import Forms, Networks, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.profiler.networks.calibration import evidence_of
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE, VALIDATE

Indices = npt.NDArray[np.int64]


def stored(path: Path) -> Networks:
    """All the networks of a table."""
    with LatencyTable.open(path) as table:
        predictor = EfficiencyPredictor(table, plain_sum=True)
        roles = (CALIBRATE, VALIDATE)
        found = [item for role in roles for item in networks(table, predictor, role)[0]]
        return evidence_of(table, predictor, found)


def without_stages(known: Networks) -> Networks:
    return replace(known, features=known.features[:, : len(TERMS)], stages=())


def errors(known: Networks, fitted: Indices, fresh: Indices) -> tuple[Floats, float, float]:
    """(fresh,) relative errors, and the share of them in the stated interval, with its percent."""
    result = fit(known.take(fitted))
    forms = Forms(result.composition, result.launch, result.spread)
    others = known.take(fresh)
    relative = forms.predict(others) / others.measured_ms - 1.0
    inside = np.abs(relative) <= forms.widening(others) * result.interval_percent / 100.0
    return relative, float(inside.mean()), result.interval_percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--fit", type=int, default=20)
    parser.add_argument("--splits", type=int, default=30)
    arguments = parser.parse_args()
    print(
        f"{'table':24}{'networks':>9}{'repeat %':>9}   MAPE %: sum  no stages   fit   in interval"
    )
    for path in arguments.tables:
        known = stored(path)
        generator = np.random.default_rng(0)
        rows = []
        for _ in range(arguments.splits):
            order = generator.permutation(len(known))
            fitted, fresh = order[: arguments.fit], order[arguments.fit :]
            plain = known.features[fresh, 0] / known.measured_ms[fresh] - 1.0
            terms_only, *_ = errors(without_stages(known), fitted, fresh)
            whole, inside, percent = errors(known, fitted, fresh)
            absolute = [100.0 * np.abs(values).mean() for values in (plain, terms_only, whole)]
            rows.append([*absolute, 100.0 * inside, percent])
        plain_mape, terms_mape, mape, inside, percent = np.mean(rows, axis=0)
        print(
            f"{path.stem:24}{len(known):9}{known.repeatability_percent:9.2f}"
            f"{plain_mape:14.2f}{terms_mape:11.2f}{mape:6.2f}{inside:8.0f} % (+-{percent:.1f} %)"
        )


if __name__ == "__main__":
    main()
