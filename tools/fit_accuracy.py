"""Fit the accuracy model that comes with lutra for ofa-mbv3-w1.0.

    python tools/fit_accuracy.py FOLDER [-o lutra/predictors/accuracy/ofa-mbv3-w1.0.json]

FOLDER holds the search traces of DyNAS-T (github.com/IntelLabs/DyNAS-T, notebooks/data, Apache
2.0): CSV files with the columns "Sub-network" and "Top-1 Acc (%)". The model is lutra's
`AdditivePredictor`, fitted as `lutra accuracy fit` fits it. Prints the held-out figures; everything
is seeded. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import ast
import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import LutraError
from lutra.predictors.accuracy.additive_fitting import (
    PENALTIES,
    SEED,
    AdditiveLearner,
    document_of,
    to_text,
)
from lutra.predictors.accuracy.fitting import figures_of, held_out
from lutra.spaces import Rows, get_space, parse_architecture

Floats = npt.NDArray[np.float64]

SPACE = get_space("ofa-mbv3-w1.0")
RESOLUTION = 224
FOLDS = 10
INNER_FOLDS = 5
CEILINGS = tuple(np.arange(78.0, 82.01, 0.2).tolist())
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


def quality_of(data: Data) -> dict[str, float]:
    """The figures on subnets that nothing was fitted on, in percent points where so named.

    The last two are harder: the most (least) accurate quarter, predicted from all the others.
    """
    top1 = data.top1
    learner = AdditiveLearner(SPACE, ceilings=CEILINGS, penalties=PENALTIES, folds=INNER_FOLDS)
    low, high = np.quantile(top1, (0.25, 0.75))
    return {
        "subnets": len(top1),
        "folds": FOLDS,
        **figures_of(held_out(learner, data.rows, top1, FOLDS, seed=SEED + 1), top1),
        "repeatability_percent": data.repeatability,
        "rmse_top_quarter_percent": _rms(_extrapolated(learner, data, top1 >= high)),
        "rmse_bottom_quarter_percent": _rms(_extrapolated(learner, data, top1 <= low)),
    }


def _extrapolated(learner: AdditiveLearner, data: Data, test: npt.NDArray[np.bool_]) -> Floats:
    """Residuals on ``test`` of a model that saw only the others."""
    model = learner.fit(data.rows[~test], data.top1[~test])
    return np.asarray(model.predict(data.rows[test]) - data.top1[test])


def _rms(residuals: Floats) -> float:
    return float(np.sqrt(np.mean(residuals**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description="fit lutra's accuracy model of ofa-mbv3-w1.0")
    parser.add_argument("folder", type=Path, help="DyNAS-T's search traces (CSV files)")
    parser.add_argument("-o", "--output", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    data = read_folder(arguments.folder)
    model = AdditiveLearner(SPACE, ceilings=CEILINGS, penalties=PENALTIES, folds=FOLDS)
    provenance = PROVENANCE.format(
        genotypes=data.genotypes,
        subnets=len(data.top1),
        low=data.top1.min(),
        high=data.top1.max(),
    )
    fitted = model.fit(data.rows, data.top1)
    document = document_of(SPACE, fitted, provenance, quality_of(data))
    print(f"{'ceiling_percent':28} {document['ceiling_percent']:10.4f}", file=sys.stderr)
    for name, value in document["quality"].items():
        print(f"{name:28} {value:10.4f}", file=sys.stderr)
    if arguments.output:
        arguments.output.write_text(to_text(document), encoding="utf-8")
    else:
        print(to_text(document), end="")


if __name__ == "__main__":
    main()
