"""Accuracies that several searches ask for, predicted once."""

from __future__ import annotations

import numpy as np

from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.spaces import Rows
from lutra.spaces.distinct import row_keys


def remembered(predictor: AccuracyPredictor) -> AccuracyPredictor:
    """A predictor that gives the same, and predicts no row twice.

    An additive one stays as it is: its sums are as fast, and the exact search is for its kind.
    """
    return predictor if isinstance(predictor, AdditivePredictor) else _Remembered(predictor)


class _Remembered(AccuracyPredictor):
    def __init__(self, predictor: AccuracyPredictor) -> None:
        self.name, self.space = predictor.name, predictor.space
        self.resolutions = predictor.resolutions
        self.provenance, self.quality = predictor.provenance, predictor.quality
        self._predictor = predictor
        self._known: dict[bytes, float] = {}

    def predict(self, rows: Rows) -> Accuracies:
        keys = row_keys(rows)
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if new:
            accuracy = self._predictor.predict(rows[new])
            self._known.update(zip((keys[place] for place in new), accuracy.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])
