"""Accuracy predictors: architectures in, ImageNet top-1 in percent out."""

from lutra.search.accuracy.additive import AdditivePredictor
from lutra.search.accuracy.base import AccuracyPredictor, bundled_predictor, load_predictor
from lutra.search.accuracy.ofa_mlp import OfaMlpPredictor

__all__ = [
    "AccuracyPredictor",
    "AdditivePredictor",
    "OfaMlpPredictor",
    "bundled_predictor",
    "load_predictor",
]
