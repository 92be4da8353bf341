"""Accuracy predictors: architectures in, top-1 in percent out."""

from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.predictors.accuracy.loading import load_accuracy
from lutra.predictors.accuracy.ofa_mlp import OfaMlpPredictor

__all__ = [
    "Accuracies",
    "AccuracyPredictor",
    "AdditivePredictor",
    "OfaMlpPredictor",
    "load_accuracy",
]
