"""Random sampling within the limits: what every other algorithm has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lutra.search.algorithms.base import (
    Algorithm,
    Archive,
    Candidates,
    Progress,
    Settings,
    fresh_rows,
    register_algorithm,
)
from lutra.search.problem import Problem


@dataclass(frozen=True, kw_only=True)
class RandomSettings(Settings):
    """``samples`` architectures are scored, ``batch`` at a time."""

    samples: int = 50_000
    batch: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("samples")
        self.check_count("batch")


class RandomSearch(Algorithm[RandomSettings]):
    """Uniform draws; where the limits leave too few of them, repaired ones."""

    name = "random"
    settings = RandomSettings

    def run(
        self,
        problem: Problem,
        settings: RandomSettings,
        rng: np.random.Generator,
        progress: Progress | None = None,
    ) -> Candidates:
        archive = Archive(problem, settings.keep)
        archive.score(problem.check_feasible()[None, :])
        for start in range(0, settings.samples, settings.batch):
            count = min(settings.batch, settings.samples - start)
            archive.score(fresh_rows(problem, archive, lambda n: problem.draw(n, rng), count, rng))
            if progress is not None:
                progress(start + count, settings.samples)
        return archive.best(settings.keep)


register_algorithm(RandomSearch())
