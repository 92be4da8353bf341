"""Search algorithms, by name: exact, surrogate, evolution, annealing, regularised, random."""

from lutra.search.algorithms import annealing, evolution, exact, random, regularised, surrogate
from lutra.search.algorithms.base import (
    Algorithm,
    Archive,
    Hyperparameters,
    OnStep,
    RankedRows,
    algorithm_names,
    get_algorithm,
    register_algorithm,
)

__all__ = [
    "Algorithm",
    "Archive",
    "Hyperparameters",
    "OnStep",
    "RankedRows",
    "algorithm_names",
    "annealing",
    "evolution",
    "exact",
    "get_algorithm",
    "random",
    "register_algorithm",
    "regularised",
    "surrogate",
]
