"""Fit the accuracy model that comes with lutra for ofa-mbv3-w1.0.

    python tools/fit_accuracy.py FOLDER [-o lutra/predictors/accuracy/ofa-mbv3-w1.0.json]

FOLDER holds the search traces of DyNAS-T (github.com/IntelLabs/DyNAS-T, notebooks/data, Apache
2.0): CSV files with the columns "Sub-network" and "Top-1 Acc (%)". The model is lutra's
`AdditivePredictor`: each choice divides the gap to a ceiling by a factor of its own. Prints the
held-out figures; everything is seeded. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import LutraError
from lutra.predictors.accuracy.additive import FORMAT, VERSION
from lutra.spaces import Rows, get_space, parse_architecture

Floats = npt.NDArray[np.float64]

SPACE = get_space("ofa-mbv3-w1.0")
RESOLUTION = 224
SEED = 0
FOLDS = 10
INNER_FOLDS = 5
CEILINGS = np.arange(78.0, 82.01, 0.2)
PENALTIES = (0.1, 0.3, 1.0, 3.0)
MAX_CELL = 4096
PROVENANCE = (
    "fitted to the ImageNet validation top-1 that IntelLabs/DyNAS-T (commit 251cb5e0, Apache-2.0)"
    " measured with inherited weights at resolution 224 on {genotypes} subnets ({subnets} distinct"
    " ones) of its search traces; most of these are good networks that searches found, between"
    " {low:.1f} and {high:.1f} %, so elsewhere the prediction is an extrapolation by the model"
)


class Data(NamedTuple):
    """Distinct architectures (N, genes), their mean top-1 in percent, and what they came from."""

    rows: Rows
    top1: Floats
    genotypes: int
    repeatability: float


class Model(NamedTuple):
    """Top-1 = ceiling - exp(-(intercept + features @ weights))."""

    ceiling: float
    penalty: float
    intercept: float
    weights: Floats

    def predict(self, features: Floats) -> Floats:
        gaps: Floats = np.exp(-(self.intercept + features @ self.weights))
        return self.ceiling - gaps


def read_folder(folder: Path) -> Data:
    """Every measured subnet; those measured more than once are averaged."""
    measured: dict[bytes, list[float]] = {}
    genotypes = set()
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for number, record in enumerate(csv.DictReader(file), start=2):
                try:
                    row, top1 = _read_record(record)
                except (ValueError, KeyError, TypeError, SyntaxError, LutraError) as error:
                    raise SystemExit(f"{path}:{number}: {error!r:.200}") from error
                genotypes.add(record["Sub-network"])
                measured.setdefault(row.tobytes(), []).append(top1)
    if len(measured) < FOLDS * INNER_FOLDS:
        raise SystemExit(f"{folder} holds {len(measured)} measured subnets: too few to fit")
    rows = np.array([np.frombuffer(key, dtype=np.int16) for key in measured])
    repeats = [np.var(values, ddof=1) for values in measured.values() if len(values) > 1]
    return Data(
        rows,
        np.array([np.mean(values) for values in measured.values()]),
        len(genotypes),
        float(np.sqrt(np.mean(repeats))) if repeats else float("nan"),
    )


def _read_record(record: dict[str, str]) -> tuple[Rows, float]:
    cell, top1 = record["Sub-network"], float(record["Top-1 Acc (%)"])
    if len(cell) > MAX_CELL or not 0 < top1 < CEILINGS[0]:
        raise ValueError("not a subnet with a top-1 in percent below the lowest ceiling")
    architecture = parse_architecture(ast.literal_eval(cell), SPACE.name)
    if architecture.r != RESOLUTION:
        raise ValueError(f"measured at resolution {architecture.r}, not {RESOLUTION}")
    return SPACE.encode(architecture), top1


def features_of(rows: Rows) -> Floats:
    """(N, genes) -> (N, features): one column for each choice but the first of each gene.

    Inert genes are 0 in canonical rows, so only blocks in use have features.
    """
    columns = [
        rows[:, gene] == choice
        for gene in range(rows.shape[1] - 1)
        for choice in range(1, int(SPACE.choice_counts[gene]))
    ]
    features: Floats = np.stack(columns, axis=1).astype(np.float64)
    return features


def fit(features: Floats, top1: Floats, ceiling: float) -> list[Model]:
    """Ridge regression of -log(ceiling - top1), one model for each penalty.

    Weighted by the squared gap, so that errors count in percent points of top-1.
    """
    gaps = ceiling - top1
    scores = -np.log(gaps)
    weights = gaps**2 / np.mean(gaps**2)
    centre = np.average(features, axis=0, weights=weights)
    mean = float(np.average(scores, weights=weights))
    centred = features - centre
    gram = centred.T @ (centred * weights[:, None])
    target = centred.T @ (weights * (scores - mean))
    models = []
    for penalty in PENALTIES:
        solution = np.linalg.solve(gram + penalty * np.eye(len(gram)), target).astype(np.float64)
        models.append(Model(ceiling, penalty, mean - float(centre @ solution), solution))
    return models


def select(features: Floats, top1: Floats, folds: int) -> Model:
    """Choose ceiling and penalty by cross-validation, then fit on everything given."""
    part = np.random.default_rng(SEED).permutation(len(top1)) % folds
    errors = np.zeros((len(CEILINGS), len(PENALTIES)))
    for fold in range(folds):
        train, test = part != fold, part == fold
        for index, ceiling in enumerate(CEILINGS):
            for column, model in enumerate(fit(features[train], top1[train], float(ceiling))):
                residuals = model.predict(features[test]) - top1[test]
                errors[index, column] += np.sum(residuals**2)
    best, choice = divmod(int(np.argmin(errors)), len(PENALTIES))
    return fit(features, top1, float(CEILINGS[best]))[choice]


def held_out(features: Floats, top1: Floats) -> Floats:
    """(N,): each subnet predicted by a model selected and fitted without its fold."""
    part = np.random.default_rng(SEED + 1).permutation(len(top1)) % FOLDS
    predicted = np.empty(len(top1))
    for fold in range(FOLDS):
        train = part != fold
        model = select(features[train], top1[train], INNER_FOLDS)
        predicted[~train] = model.predict(features[~train])
    return predicted


def quality_of(data: Data, features: Floats) -> dict[str, float]:
    """The figures on subnets that nothing was fitted on, in percent points where so named.

    The last two are harder: the most (least) accurate quarter, predicted from all the others.
    """
    from scipy.stats import kendalltau

    top1 = data.top1
    residuals = held_out(features, top1) - top1
    low, high = np.quantile(top1, (0.25, 0.75))
    return {
        "subnets": len(top1),
        "folds": FOLDS,
        "r2": 1 - float(np.mean(residuals**2) / np.var(top1)),
        "rmse_percent": _rms(residuals),
        "max_percent": float(np.max(np.abs(residuals))),
        "kendall_tau": float(kendalltau(top1 + residuals, top1).statistic),
        "repeatability_percent": data.repeatability,
        "rmse_top_quarter_percent": _rms(_extrapolated(features, top1, top1 >= high)),
        "rmse_bottom_quarter_percent": _rms(_extrapolated(features, top1, top1 <= low)),
    }


def _extrapolated(features: Floats, top1: Floats, test: npt.NDArray[np.bool_]) -> Floats:
    """Residuals on ``test`` of a model that saw only the others."""
    model = select(features[~test], top1[~test], INNER_FOLDS)
    return model.predict(features[test]) - top1[test]


def _rms(residuals: Floats) -> float:
    return float(np.sqrt(np.mean(residuals**2)))


def document_of(data: Data, model: Model, quality: dict[str, float]) -> dict[str, Any]:
    """The JSON form that `AdditivePredictor.from_bytes` reads."""
    coefficients: dict[str, list[list[float]]] = {}
    weights = iter(model.weights)
    for gene in SPACE.genes[:-1]:
        effects = [0.0, *(round(float(next(weights)), 6) for _ in gene.choices[1:])]
        coefficients.setdefault(gene.list_name, []).append(effects)
    return {
        "format": FORMAT,
        "version": VERSION,
        "space": SPACE.name,
        "resolution": RESOLUTION,
        "model": "top-1 % = ceiling_percent - exp(-(intercept + sum of the coefficients of the"
        " choices made: per block in use its ks and e, per stage its d))",
        "provenance": PROVENANCE.format(
            genotypes=data.genotypes,
            subnets=len(data.top1),
            low=data.top1.min(),
            high=data.top1.max(),
        ),
        "quality": {name: round(value, 4) for name, value in quality.items()},
        "penalty": model.penalty,
        "ceiling_percent": round(model.ceiling, 4),
        "intercept": round(model.intercept, 6),
        "coefficients": coefficients,
    }


def to_text(document: dict[str, Any]) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(document, indent=2)
    return re.sub(r"\[[^\[\]]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="fit lutra's accuracy model of ofa-mbv3-w1.0")
    parser.add_argument("folder", type=Path, help="DyNAS-T's search traces (CSV files)")
    parser.add_argument("-o", "--output", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    data = read_folder(arguments.folder)
    features = features_of(data.rows)
    quality = quality_of(data, features)
    document = document_of(data, select(features, data.top1, FOLDS), quality)
    for name in ("ceiling_percent", "penalty"):
        print(f"{name:28} {document[name]:10.4f}", file=sys.stderr)
    for name, value in document["quality"].items():
        print(f"{name:28} {value:10.4f}", file=sys.stderr)
    if arguments.output:
        arguments.output.write_text(to_text(document), encoding="utf-8")
    else:
        print(to_text(document), end="")


if __name__ == "__main__":
    main()
