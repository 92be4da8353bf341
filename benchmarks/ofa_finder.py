"""The evolution search of OFA's own package (``ofa.tutorial``) on the tables of a Note10.

What the package downloads is read from files; its search, how it sums latencies and its features
are as published.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import random
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from tests.search import note10
from tests.supernets.reference import without_images

LEAST_MS = 15.0
"""The smallest budget that the package takes; below, its rejection sampling hardly ever ends."""


def finder(tables: Path, predictor: Path, budget_ms: float) -> Any:
    """Its finder with its settings."""
    without_images()
    if "gdown" not in sys.modules and importlib.util.find_spec("gdown") is None:  # for weights
        sys.modules["gdown"] = types.ModuleType("gdown")
    from ofa.tutorial import EvolutionFinder

    return EvolutionFinder("note10", budget_ms, _latency(tables), _accuracy(predictor))


def best_accuracy(finder: Any, seed: int) -> float:
    """The predicted accuracy of what it finds, in percent; it draws from the global generators."""
    random.seed(seed)
    np.random.seed(seed)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        _, (accuracy, *_) = finder.run_evolution_search()
    return 100 * float(accuracy)


def _latency(tables: Path) -> Any:
    """Its table, with the prices that the other algorithms are given."""
    from ofa.tutorial.latency_table import LatencyEstimator, LatencyTable

    one = LatencyEstimator.__new__(LatencyEstimator)
    one.lut = {name: {"mean": mean} for name, mean in note10.published_means(tables).items()}
    table = LatencyTable(resolutions=())
    table.latency_tables = dict.fromkeys(note10.RESOLUTIONS, one)
    return table


def _accuracy(predictor: Path) -> Any:
    """Its predictor on the CPU."""
    import torch
    from ofa.tutorial import AccuracyPredictor

    made = AccuracyPredictor(pretrained=False, device="cpu")
    weights = torch.load(predictor / "acc_predictor.pth", map_location="cpu", weights_only=True)
    made.model.load_state_dict(weights)
    return made
