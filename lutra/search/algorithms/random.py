"""Random sampling within the limits: what every other algorithm has to beat."""

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


@dataclass(frozen=True, kw_only=True)
class RandomHyperparameters(Hyperparameters):
    """``samples`` architectures are scored, ``batch`` at a time."""

    samples: int = 50_000
    batch: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("samples")
        self.check_count("batch")


class RandomSearch(Algorithm[RandomHyperparameters]):
    """Uniform draws; where the limits leave too few of them, repaired ones."""

    name = "random"
    hyperparameters = RandomHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: RandomHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        archive = Archive(problem, hyperparameters.keep)
        archive.score(problem.anchor[None, :])
        with archive.until_interrupted():
            for start in range(0, hyperparameters.samples, hyperparameters.batch):
                count = min(hyperparameters.batch, hyperparameters.samples - start)
                archive.score(
                    fresh_rows(problem, archive, lambda n: problem.moves.draw(n, rng), count, rng)
                )
                if on_step is not None:
                    on_step(start + count, hyperparameters.samples)
        return archive.best()


register_algorithm(RandomSearch())
