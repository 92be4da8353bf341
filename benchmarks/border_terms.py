"""Would terms for what two neighbouring ops cost together predict networks better?

    python -m benchmarks.border_terms TABLE... [--fit 20] [--splits 10]

Nothing is measured. Of the networks that a table holds, some are fitted on and the others
predicted, in random splits: by today's composition, and with what crosses the borders between
neighbouring ops, in MB, as further terms: in all, into a stride, into another stage, into another
kernel or expansion, and out of and into a shortcut. They are fitted as stages are (the prior and
whether they count is what makes the networks most likely), and apart, non-negative, on what the
composition leaves over, with a strength that is cross-validated.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks.fit_splits import Indices
from benchmarks.prediction_error import networks
from lutra.ops import OpConfig
from lutra.predictors.efficiency.fitting import Forms, Networks, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.profiler.networks.calibration import evidence_of
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE, VALIDATE, VERIFY

NAMES = ("border", "border-stride", "border-stage", "border-kernel", "border-from", "border-to")
_SHARE = 1.0  # of a latency: what all borders together are scaled to, so that priors are wide
_STRENGTHS = (0.003, 0.01, 0.03, 0.1)
_FOLDS = 5


def border_terms(ops: list[OpConfig]) -> Floats:
    """(NAMES,): megabytes that cross the borders of one network's ops, by what lies beside them."""
    total = np.zeros(len(NAMES))
    for before, after in pairwise(ops):
        megabytes = 4e-6 * after.input_shape.elements
        kernels = [
            (getattr(op, "kernel", 1), getattr(op, "mid_channels", 0)) for op in (before, after)
        ]
        total += megabytes * np.array(
            [
                1.0,
                getattr(after, "stride", 1) > 1,
                before.output_shape != after.output_shape,
                kernels[0] != kernels[1],
                bool(getattr(before, "residual", False)),
                bool(getattr(after, "residual", False)),
            ]
        )
    return total


def stored(path: Path) -> tuple[Networks, Floats]:
    """All the networks of a table, and their `border_terms` (N, NAMES), scaled to ms."""
    with LatencyTable.open(path) as table:
        predictor = EfficiencyPredictor(table, plain_sum=True)
        roles = (CALIBRATE, VALIDATE, VERIFY)
        found = [item for role in roles for item in networks(table, predictor, role)[0]]
        known = evidence_of(table, predictor, found)
        terms = np.stack([border_terms(predictor.space.ops_of(item)) for item in found])
    if len(known) != len(found):
        raise SystemExit(f"{path}: some networks were measured while the machine drifted")
    return known, terms * (_SHARE * known.measured_ms.mean() / terms[:, 0].mean())


def predicted(known: Networks, fitted: Indices, others: Indices) -> Floats:
    result = fit(known.take(fitted))
    return Forms(result.composition, result.launch).predict(known.take(others))


def left_over(known: Networks, terms: Floats, fitted: Indices, fresh: Indices) -> Floats:
    """Predictions of the fresh ones with non-negative borders fitted on residuals held out."""
    base = np.empty(len(fitted))
    for fold in range(_FOLDS):
        out = np.arange(fold, len(fitted), _FOLDS)
        base[out] = predicted(known, np.delete(fitted, out), fitted[out])
    shares, residual = terms[fitted] / base[:, None], known.measured_ms[fitted] / base - 1.0
    errors = {0.0: float(np.abs(residual).mean())}
    for strength in _STRENGTHS:
        left = [
            residual[fold::_FOLDS]
            - shares[fold::_FOLDS]
            @ _ridge(
                np.delete(shares, np.s_[fold::_FOLDS], 0),
                np.delete(residual, np.s_[fold::_FOLDS]),
                strength,
            )
            for fold in range(_FOLDS)
        ]
        errors[strength] = float(np.abs(np.concatenate(left)).mean())
    best = min(errors, key=lambda strength: errors[strength])
    plain = predicted(known, fitted, fresh)
    if not best:
        return plain
    return plain + terms[fresh] @ _ridge(shares, residual, best)


def _ridge(shares: Floats, residual: Floats, strength: float) -> Floats:
    """Non-negative coefficients: the smaller the strength, the closer to 0."""
    penalty = np.eye(shares.shape[1]) * 0.01 / strength
    zeros = np.zeros(len(penalty))
    found: Floats = nnls(np.vstack([shares, penalty]), np.concatenate([residual, zeros]))[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--fit", type=int, default=20)
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    print(f"{'table':24}{'networks':>9}{'repeat %':>9}   MAPE %: now  with borders  non-negative")
    for path in given.tables:
        known, terms = stored(path)
        features = np.hstack([known.features, terms])
        wider = replace(known, features=features, stages=(*known.stages, *NAMES))
        generator, rows = np.random.default_rng(0), []
        for _ in range(given.splits):
            order = generator.permutation(len(known))
            fitted, fresh = order[: given.fit], order[given.fit :]
            ways = (
                predicted(known, fitted, fresh),
                predicted(wider, fitted, fresh),
                left_over(known, terms, fitted, fresh),
            )
            rows.append(
                [100.0 * np.abs(way / known.measured_ms[fresh] - 1.0).mean() for way in ways]
            )
        now, joint, apart = np.mean(rows, axis=0)
        print(
            f"{path.stem:24}{len(known):9}{known.repeatability_percent:9.2f}"
            f"{now:14.2f}{joint:14.2f}{apart:14.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
