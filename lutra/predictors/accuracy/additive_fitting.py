"""Fitting `AdditivePredictor`: ridge regression of scores, ceiling and penalty by cross-validation.

Everything is seeded: the same measurements give the same model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.predictors.accuracy.additive import FORMAT, VERSION, AdditivePredictor
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.spaces import Rows, SearchSpace

Floats = npt.NDArray[np.float64]

SEED = 0
PENALTIES = (0.1, 0.3, 1.0, 3.0)
# Where noise is large next to what choices do; the last leaves nothing but the mean.
STRONG_PENALTIES = (*PENALTIES, 10.0, 30.0, 100.0, 1e3, 1e9)
FOLDS = 5
# Ceilings beyond the best measured top-1, in spans from the worst to the best.
_BEYOND = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
_LEAST_GAP = 0.05  # percentage points below the ceiling


class Model(NamedTuple):
    """Top-1 = ceiling - exp(-(intercept + features @ weights))."""

    ceiling: float
    penalty: float
    intercept: float
    weights: Floats

    def predict(self, features: Floats) -> Floats:
        """(N, features) -> (N,) top-1 in percent."""
        gaps: Floats = np.exp(-(self.intercept + features @ self.weights))
        return self.ceiling - gaps


class AdditiveLearner:
    """Fits additive models of a space: `fit` chooses among ``ceilings`` and ``penalties``.

    ``ceilings`` (percent) are by default some above the best architecture measured.
    """

    name = "additive"

    def __init__(
        self,
        space: SearchSpace,
        *,
        ceilings: Sequence[float] | None = None,
        penalties: Sequence[float] = STRONG_PENALTIES,
        folds: int = FOLDS,
    ) -> None:
        self.space = space
        self._ceilings = ceilings
        self._penalties = penalties
        self._folds = folds

    def fit(self, rows: Rows, top1: Accuracies) -> AdditivePredictor:
        """A predictor from architectures (N, genes) and their top-1 (N,) in percent."""
        resolutions = resolutions_in(self.space, rows)
        model = self.model(rows, top1)
        table = np.zeros((len(self.space.genes), int(self.space.choice_counts.max())))
        for (gene, choice), weight in zip(
            _columns(self.space, resolutions), model.weights, strict=True
        ):
            table[gene, choice] = weight
        return AdditivePredictor(
            self.space, resolutions, model.ceiling, model.intercept, table, "", {}
        )

    def model(self, rows: Rows, top1: Accuracies) -> Model:
        """Choose ceiling and penalty by cross-validation, then fit on everything given."""
        features = features_of(self.space, rows)
        ceilings = _ceilings(top1) if self._ceilings is None else self._ceilings
        part = np.random.default_rng(SEED).permutation(len(top1)) % self._folds
        errors = np.zeros((len(ceilings), len(self._penalties)))
        for fold in range(self._folds):
            train, test = part != fold, part == fold
            for index, ceiling in enumerate(ceilings):
                fitted = _ridges(features[train], top1[train], float(ceiling), self._penalties)
                for column, model in enumerate(fitted):
                    residuals = model.predict(features[test]) - top1[test]
                    errors[index, column] += np.sum(residuals**2)
        best, choice = divmod(int(np.argmin(errors)), len(self._penalties))
        return _ridges(features, top1, float(ceilings[best]), self._penalties)[choice]

    def to_bytes(
        self, predictor: AccuracyPredictor, provenance: str, quality: Mapping[str, float]
    ) -> bytes:
        """The JSON form that `AdditivePredictor.from_bytes` reads."""
        assert isinstance(predictor, AdditivePredictor)
        return to_text(document_of(self.space, predictor, provenance, quality)).encode()


def resolutions_in(space: SearchSpace, rows: Rows) -> tuple[int, ...]:
    """The resolutions of some architectures, in the space's order."""
    return tuple(space.resolutions[choice] for choice in np.unique(rows[:, -1]))


def features_of(space: SearchSpace, rows: Rows) -> Floats:
    """(N, genes) -> (N, features): one column for each choice but the first of each gene.

    Inert genes are 0 in canonical rows, so only blocks in use have features. Of resolutions only
    those have one that occur, but the first.
    """
    columns = [
        rows[:, gene] == choice for gene, choice in _columns(space, resolutions_in(space, rows))
    ]
    features: Floats = np.stack(columns, axis=1).astype(np.float64)
    return features


def _columns(space: SearchSpace, resolutions: Sequence[int]) -> list[tuple[int, int]]:
    """Gene and choice of each feature."""
    last = len(space.genes) - 1
    return [
        (gene, choice)
        for gene in range(last)
        for choice in range(1, int(space.choice_counts[gene]))
    ] + [(last, int(choice)) for choice in space.resolution_indices(resolutions)[1:]]


def _ceilings(top1: Accuracies) -> list[float]:
    best, worst = float(top1.max()), float(top1.min())
    return sorted({min(best + (best - worst) * beyond, 100.0) for beyond in _BEYOND})


def _ridges(
    features: Floats, top1: Accuracies, ceiling: float, penalties: Sequence[float]
) -> list[Model]:
    """Ridge regression of -log(ceiling - top1), one model for each penalty.

    Weighted by the squared gap, so that errors count in percent points of top-1.
    """
    gaps = np.maximum(ceiling - top1, _LEAST_GAP)
    scores = -np.log(gaps)
    weights = gaps**2 / np.mean(gaps**2)
    centre = np.average(features, axis=0, weights=weights)
    mean = float(np.average(scores, weights=weights))
    centred = features - centre
    gram = centred.T @ (centred * weights[:, None])
    target = centred.T @ (weights * (scores - mean))
    models = []
    for penalty in penalties:
        solution = np.linalg.solve(gram + penalty * np.eye(len(gram)), target).astype(np.float64)
        models.append(Model(ceiling, penalty, mean - float(centre @ solution), solution))
    return models


def document_of(
    space: SearchSpace,
    predictor: AdditivePredictor,
    provenance: str,
    quality: Mapping[str, float],
) -> dict[str, Any]:
    """A predictor as a JSON document."""
    coefficients: dict[str, list[list[float]]] = {}
    for gene, effects in zip(space.genes, predictor.coefficients, strict=True):
        choices = list(range(len(gene.choices)))
        if gene.list_name == "r":
            choices = space.resolution_indices(predictor.resolutions).tolist()
        rounded = [round(float(effects[choice]), 6) for choice in choices]
        coefficients.setdefault(gene.list_name, []).append(rounded)
    return {
        "format": FORMAT,
        "version": VERSION,
        "space": space.name,
        "resolutions": list(predictor.resolutions),
        "model": "top-1 % = ceiling_percent - exp(-(intercept + sum of the coefficients of the"
        " choices made, of blocks that are in use))",
        "provenance": provenance,
        "quality": {name: round(float(value), 4) for name, value in quality.items()},
        "ceiling_percent": round(predictor.ceiling, 4),
        "intercept": round(predictor.intercept, 6),
        "coefficients": coefficients,
    }


def to_text(document: Mapping[str, Any]) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(document, indent=2)
    return re.sub(r"\[[^\[\]]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"
