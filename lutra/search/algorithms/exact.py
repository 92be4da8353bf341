"""The proved optimum where accuracy is additive, and what comes nearest to it elsewhere.

An additive accuracy model rises with a sum over the edges of the space's lattices, and so do costs:
the most accurate network within limits is a constrained shortest path, found by `additive`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lutra.errors import UsageError
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.search.algorithms.additive import best_rows, distant_rows, paths_of, scores_of
from lutra.search.algorithms.base import (
    Algorithm,
    Archive,
    Hyperparameters,
    OnStep,
    RankedRows,
    register_algorithm,
)
from lutra.search.algorithms.surrogate import SurrogateHyperparameters, SurrogateSearch
from lutra.search.problem import Problem


@dataclass(frozen=True, kw_only=True)
class ExactHyperparameters(Hyperparameters):
    """``distance``: each network differs in so many genes at least from all better ones of them.

    Asked of additive accuracies; 0 and 1 ask for nothing but different networks.
    """

    distance: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("distance", 0)


class Exact(Algorithm[ExactHyperparameters]):
    """The best networks by additive accuracy, proved; by others like `SurrogateSearch`, unproved.

    Raises `UsageError` where a distance is asked for by an accuracy that is not additive.
    """

    name = "exact"
    hyperparameters = ExactHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: ExactHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        if isinstance(problem.accuracy, AdditivePredictor):
            return _proved(problem, problem.accuracy, hyperparameters, on_step)
        if hyperparameters.distance > 1:
            raise UsageError(
                f"search setting distance = {hyperparameters.distance} needs an additive accuracy;"
                f" {problem.accuracy.name} is not"
            )
        chosen = SurrogateHyperparameters(keep=hyperparameters.keep)
        return SurrogateSearch().run(problem, chosen, rng, on_step)


def _proved(
    problem: Problem,
    accuracy: AdditivePredictor,
    hyperparameters: ExactHyperparameters,
    on_step: OnStep | None,
) -> RankedRows:
    archive = Archive(problem, hyperparameters.keep)
    _ = problem.anchor  # raises where the limits cannot be met
    graphs = paths_of(problem, scores_of(accuracy))
    if hyperparameters.distance > 1:
        found = distant_rows(problem, graphs, hyperparameters.keep, hyperparameters.distance)
    else:
        found = best_rows(problem, graphs, hyperparameters.keep)
    archive.score(found.rows if len(found.rows) else problem.anchor[None, :])
    if on_step is not None:
        on_step(1, 1)
    ranked = archive.best()
    possible = float(accuracy.accuracy_of(np.array([found.cut]))[0]) if not found.proved else 0.0
    return replace(ranked, gap=max(possible - float(ranked.accuracy[0]), 0.0))


register_algorithm(Exact())
