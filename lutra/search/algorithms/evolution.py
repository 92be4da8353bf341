"""Once-for-All's evolution: the best so far breed mutants and crossovers.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment"
(ICLR 2020). Here a generation is drawn, checked and scored as whole arrays, no architecture is
scored twice, and the last generation counts. Several islands evolve one after the other and then
together, because a single one often settles on the wrong resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
class EvolutionHyperparameters(Hyperparameters):
    """Children per generation, and how they come about.

    ``parent_ratio`` is relative to the population, ``mutation_ratio`` the share of mutants among
    the children, ``mutation_probability`` each gene's. ``generations`` counts those of all
    ``islands`` and of the shared last phase, which is as long as one island's share and longer
    by the remainder.
    """

    population: int = 100
    generations: int = 500
    parent_ratio: float = 0.25
    mutation_ratio: float = 0.5
    mutation_probability: float = 0.1
    islands: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("population", 2)
        self.check_count("generations")
        self.check_count("islands")
        for ratio in ("parent_ratio", "mutation_ratio", "mutation_probability"):
            self.check(ratio, 0, 1)

    @property
    def parents(self) -> int:
        """How many of the best breed."""
        return max(1, round(self.parent_ratio * self.population))

    @property
    def phases(self) -> tuple[int, ...]:
        """Generations of each island, and then of all together."""
        if self.islands == 1:
            return (self.generations,)
        share = self.generations // (self.islands + 1)
        return (share,) * self.islands + (self.generations - share * self.islands,)


class Evolution(Algorithm[EvolutionHyperparameters]):
    """The parents are the best distinct architectures of all earlier generations."""

    name = "evolution"
    hyperparameters = EvolutionHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: EvolutionHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        archive = Archive(problem, hyperparameters.keep)
        with archive.until_interrupted():
            EvolutionRun(problem, hyperparameters, rng, on_step, archive).search()
        return archive.best()


@dataclass(frozen=True)
class _Parents:
    """Distinct rows and their accuracy (N,), best first."""

    rows: Rows
    accuracy: npt.NDArray[np.float64]

    def joined(self, rows: Rows, accuracy: npt.NDArray[np.float64], keep: int) -> _Parents:
        """The best ``keep`` of these and others."""
        every = np.concatenate([self.accuracy, accuracy])
        order = np.argsort(-every, kind="stable")[:keep]
        return _Parents(np.concatenate([self.rows, rows])[order], every[order])


class EvolutionRun:
    """One search: what its steps share."""

    def __init__(
        self,
        problem: Problem,
        hyperparameters: EvolutionHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None,
        archive: Archive,
    ) -> None:
        self._problem = problem
        self._hyperparameters = hyperparameters
        self._rng = rng
        self._on_step = on_step
        self._archive = archive
        self._done = 0

    def search(self) -> None:
        """Found and evolve the islands, then breed from all of their best."""
        anchor = self._problem.anchor[None, :]
        start = _Parents(anchor, self._archive.score(anchor))
        *islands, last = self._hyperparameters.phases
        everyone = start if islands else self._founded(start)
        for generations in islands:
            island = self._evolved(self._founded(start), generations)
            new = (island.rows != anchor).any(axis=1)  # every island starts with the anchor
            size = len(everyone.rows) + len(island.rows)
            everyone = everyone.joined(island.rows[new], island.accuracy[new], size)
        self._evolved(everyone, last)

    def _founded(self, start: _Parents) -> _Parents:
        """A random population."""
        rows = self._fresh(self._draw, self._hyperparameters.population)
        return start.joined(rows, self._archive.score(rows), self._hyperparameters.population)

    def _evolved(self, parents: _Parents, generations: int) -> _Parents:
        for _ in range(generations):
            children = self._children(parents.rows)
            accuracy = self._archive.score(children)
            parents = parents.joined(children, accuracy, self._hyperparameters.parents)
            self._done += 1
            if self._on_step is not None:
                self._on_step(self._done, self._hyperparameters.generations)
        return parents

    def _children(self, parents: Rows) -> Rows:
        """Feasible and never scored before; mutants make up for crossovers that are lacking."""
        population = self._hyperparameters.population
        wanted = population - round(self._hyperparameters.mutation_ratio * population)
        crossed = fresh_rows(
            self._problem,
            self._archive,
            lambda count: self._crossovers(parents, count),
            wanted,
            self._rng,
            draws=1,
            repair=False,
        )
        mutants = self._fresh(lambda n: self._mutants(parents, n), population - len(crossed))
        return self._archive.unseen(np.concatenate([crossed, mutants]))

    def _fresh(self, draw: Callable[[int], Rows], count: int) -> Rows:
        return fresh_rows(self._problem, self._archive, draw, count, self._rng)

    def _draw(self, count: int) -> Rows:
        return self._problem.moves.draw(count, self._rng)

    def _mutants(self, parents: Rows, count: int) -> Rows:
        children = parents[self._rng.integers(len(parents), size=count)]
        mutated = self._rng.random(children.shape) < self._hyperparameters.mutation_probability
        result: Rows = np.where(mutated, self._draw(count), children)
        return result

    def _crossovers(self, parents: Rows, count: int) -> Rows:
        first, second = parents[self._rng.integers(len(parents), size=(2, count))]
        result: Rows = np.where(self._rng.random(first.shape) < 0.5, first, second)
        return result


register_algorithm(Evolution())
