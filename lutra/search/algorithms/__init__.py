"""Search algorithms, by name: evolution, annealing, random."""

from lutra.search.algorithms import annealing, evolution, random
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
    "get_algorithm",
    "random",
    "register_algorithm",
]
