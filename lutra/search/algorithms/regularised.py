"""Regularised evolution: the oldest dies, however good it is.

Real et al., "Regularized Evolution for Image Classifier Architecture Search" (AAAI 2019). Here a
cycle makes a batch of children at once, and none is scored twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lutra.search.algorithms.base import (
    Algorithm,
    Archive,
    Hyperparameters,
    OnStep,
    RankedRows,
    fresh_rows,
    register_algorithm,
)
from lutra.search.problem import Problem
from lutra.spaces import Rows


@dataclass(frozen=True, kw_only=True)
class RegularisedHyperparameters(Hyperparameters):
    """The best of ``sample`` random members of the ``population`` is the parent of each child.

    A child differs from its parent in up to ``changes`` genes. ``batch`` children replace as many
    of the oldest, ``cycles`` times.
    """

    population: int = 200
    sample: int = 25
    changes: int = 3
    batch: int = 50
    cycles: int = 600

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in ("population", "sample", "changes", "batch", "cycles"):
            self.check_count(count)
        self.check("batch", 1, self.population)


class RegularisedEvolution(Algorithm[RegularisedHyperparameters]):
    """Only what is inherited again and again stays: chance finds die of age."""

    name = "regularised"
    hyperparameters = RegularisedHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: RegularisedHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        archive = Archive(problem, hyperparameters.keep)
        archive.score(problem.anchor[None, :])
        with archive.until_interrupted():
            _evolve(problem, archive, hyperparameters, rng, on_step)
        return archive.best()


def _evolve(
    problem: Problem,
    archive: Archive,
    chosen: RegularisedHyperparameters,
    rng: np.random.Generator,
    on_step: OnStep | None,
) -> None:
    def founded(count: int) -> Rows:
        return problem.moves.draw(count, rng)

    founders = fresh_rows(problem, archive, founded, chosen.population - 1, rng)
    members = np.concatenate([problem.anchor[None, :], founders])  # from old to young
    accuracy = archive.score(members)

    def children(count: int) -> Rows:
        # Each child has a parent of its own: the best of a sample of the members.
        sampled = rng.integers(len(members), size=(count, chosen.sample))
        parents = sampled[np.arange(count), accuracy[sampled].argmax(axis=1)]
        return problem.moves.draw_several_changes(members[parents], chosen.changes, rng)

    for cycle in range(chosen.cycles):
        born = fresh_rows(problem, archive, children, chosen.batch, rng)
        members = np.concatenate([members, born])[-chosen.population :]
        accuracy = np.concatenate([accuracy, archive.score(born)])[-chosen.population :]
        if on_step is not None:
            on_step(cycle + 1, chosen.cycles)


register_algorithm(RegularisedEvolution())
