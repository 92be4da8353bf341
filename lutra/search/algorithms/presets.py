"""Which algorithm a search takes: the one asked for, a published preset, or what suits it best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lutra.errors import UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.search.algorithms.annealing import Annealing
from lutra.search.algorithms.evolution import Evolution
from lutra.search.algorithms.exact import Exact
from lutra.search.algorithms.surrogate import SurrogateSearch
from lutra.text import did_you_mean

AUTO = "auto"


class Preset(NamedTuple):
    """An algorithm and its hyperparameters, by name."""

    algorithm: str
    hyperparameters: Mapping[str, float]


PRESETS: Mapping[str, Preset] = {
    # PaddleSlim's Light-NAS: one chain of 300 steps from temperature 1024 (accuracy as a fraction).
    "light-nas": Preset(
        Annealing.name,
        {
            "chains": 1,
            "rounds": 1,
            "steps": 300,
            "initial_temperature": 102_400.0,
            "cooling": 0.85,
            "changes": 1,
            "polish": 0,
        },
    ),
    # The evolution of Once-for-All's authors: one population, 500 generations of 100.
    "ofa": Preset(
        Evolution.name,
        {
            "population": 100,
            "generations": 500,
            "parent_ratio": 0.25,
            "mutation_ratio": 0.5,
            "mutation_probability": 0.1,
            "islands": 1,
        },
    ),
}
"""Published settings of searches, by name."""


def resolve(
    algorithm: str, preset: str | None, accuracy: AccuracyPredictor
) -> tuple[str, Mapping[str, float]]:
    """The algorithm to run and what it is told beside its defaults.

    `AUTO` is ``exact`` for an additive accuracy, which it proves, else ``surrogate``. Raises
    `UsageError` for an unknown preset, and for one beside an algorithm.
    """
    if preset is not None:
        if algorithm != AUTO:
            raise UsageError(f"preset '{preset}' is an algorithm with its settings: name one only")
        if preset not in PRESETS:
            near = did_you_mean(preset, PRESETS)
            raise UsageError(f"unknown preset '{preset}'; known: {', '.join(PRESETS)}{near}")
        return PRESETS[preset]
    if algorithm == AUTO:
        additive = isinstance(accuracy, AdditivePredictor)
        algorithm = Exact.name if additive else SurrogateSearch.name
    return algorithm, {}
