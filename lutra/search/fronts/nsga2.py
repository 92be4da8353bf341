"""NSGA-II on arrays: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm" (2002).

A generation is drawn, checked and scored as whole arrays, no architecture is scored twice, and
the front of all that was ever scored counts, not that of the last population. Parents are near
each other on the front: a fast and a large network have children that are neither. More children
are drawn than are scored: an additive model of what was scored last says which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.search.algorithms.base import Hyperparameters, OnStep, fresh_rows
from lutra.search.algorithms.ridge import AdditiveModel
from lutra.search.fronts.archive import Front, FrontArchive
from lutra.search.fronts.dominance import Places, Values, crowding, ranked
from lutra.search.fronts.objectives import Objective
from lutra.search.problem import Problem
from lutra.spaces import Rows

_FITTED = 10  # populations that the model is fitted to; older ones are of another part of the space


@dataclass(frozen=True, kw_only=True)
class Nsga2Hyperparameters(Hyperparameters):
    """``population`` children in each of ``generations``.

    ``crossover_ratio`` of them take each gene from either of two parents, the others from one; a
    gene then changes with probability ``mutation_probability``. The second parent is at most
    ``neighbours`` places from the first in the order of the first objective. ``keep`` bounds the
    front. The children are chosen of ``candidates`` times as many by their costs and the accuracy
    that an additive model expects; with 1 there is no choice.
    """

    keep: int = 400
    population: int = 200
    generations: int = 100
    crossover_ratio: float = 0.8
    mutation_probability: float = 0.02
    neighbours: int = 5
    candidates: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("population", 4)
        self.check_count("generations")
        self.check_count("neighbours")
        self.check_count("candidates")
        for ratio in ("crossover_ratio", "mutation_probability"):
            self.check(ratio, 0, 1)


def nsga2(
    problem: Problem,
    objectives: Sequence[Objective],
    hyperparameters: Nsga2Hyperparameters,
    rng: np.random.Generator,
    on_step: OnStep | None = None,
) -> Front:
    """The front that was found; the same seed gives the same one.

    Raises `InfeasibleError` at once when the limits cannot be met.
    """
    run = _Run(problem, objectives, hyperparameters, rng)
    run.found()
    for generation in range(1, hyperparameters.generations):
        run.breed()
        if on_step is not None:
            on_step(generation + 1, hyperparameters.generations)
    return run.archive.front(hyperparameters.keep)


class _Population(NamedTuple):
    """Rows, their values, and what tournaments are decided by: rank, then crowding."""

    rows: Rows
    values: Values
    rank: npt.NDArray[np.intp]
    distance: npt.NDArray[np.float64]


class _Run:
    """One search: what its steps share."""

    def __init__(
        self,
        problem: Problem,
        objectives: Sequence[Objective],
        hyperparameters: Nsga2Hyperparameters,
        rng: np.random.Generator,
    ) -> None:
        self._problem = problem
        self._hyperparameters = hyperparameters
        self._rng = rng
        self.archive = FrontArchive(problem, objectives)

    def found(self) -> None:
        """A random population, and the anchor, which meets all limits."""
        anchor = self._problem.anchor[None, :]
        values = self.archive.score(anchor)
        count = self._hyperparameters.population
        rows = self._fresh(lambda n: self._problem.moves.draw(n, self._rng), count)
        rows, values = (
            np.concatenate([anchor, rows]),
            np.concatenate([values, self.archive.score(rows)]),
        )
        self._population = _survivors(rows, values, count)
        self._last = rows

    def breed(self) -> None:
        """One generation: children of tournament winners, and the best of all."""
        count = self._hyperparameters.population
        children = self._fresh(self._children, self._hyperparameters.candidates * count)
        if len(children) > count:
            children = self._promising(children)
        values = self.archive.score(children)
        before = self._population
        self._population = _survivors(
            np.concatenate([before.rows, children]),
            np.concatenate([before.values, values]),
            count,
        )
        self._last = np.concatenate([self._last, children])[-_FITTED * count :]

    # docs/decisions.md: Children that promise most
    def _promising(self, children: Rows) -> Rows:
        """A population of the children: the best, if the accuracy is what the model expects."""
        accuracy = self.archive.scored.score(self._last)
        model = AdditiveModel(self._problem.space, self._last, accuracy, np.ones(len(accuracy)))
        expected = self.archive.values_of(children, model.of(children))
        return _survivors(children, expected, self._hyperparameters.population).rows

    def _fresh(self, draw: Callable[[int], Rows], count: int) -> Rows:
        return fresh_rows(self._problem, self.archive.scored, draw, count, self._rng)

    def _children(self, count: int) -> Rows:
        """Crossovers of near parents, mutated; neither canonical nor feasible."""
        rows, places = self._population.rows, self._winners(count)
        first, second = rows[places], rows[self._near(places)]
        crossed = self._rng.random((count, 1)) < self._hyperparameters.crossover_ratio
        swapped = crossed & (self._rng.random(first.shape) < 0.5)
        children = np.where(swapped, second, first)
        mutated = self._rng.random(first.shape) < self._hyperparameters.mutation_probability
        result: Rows = np.where(mutated, self._problem.moves.draw(count, self._rng), children)
        return result

    def _winners(self, count: int) -> Places:
        """The better of two drawn ones each: of lower rank, or else less crowded."""
        one, other = self._rng.integers(len(self._population.rows), size=(2, count))
        rank, distance = self._population.rank, self._population.distance
        closer = (rank[one] == rank[other]) & (distance[one] >= distance[other])
        return np.where((rank[one] < rank[other]) | closer, one, other)

    # docs/decisions.md: Near parents
    def _near(self, places: Places) -> Places:
        """Another one near each in the order of the first objective."""
        order = np.argsort(self._population.values[:, 0], kind="stable")
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        reach = self._hyperparameters.neighbours
        steps = self._rng.integers(-reach, reach + 1, size=len(places))
        near: Places = order[np.clip(position[places] + steps, 0, len(order) - 1)]
        return near


def _survivors(rows: Rows, values: Values, count: int) -> _Population:
    """The best fronts; of the one that is too many, those far from others."""
    chosen: list[Places] = []
    ranks, distances = [], []
    for rank, front in enumerate(ranked(values, count)):
        distance = crowding(values[front])
        room = count - sum(map(len, chosen))
        best = np.argsort(-distance, kind="stable")[:room]
        chosen.append(front[best])
        ranks.append(np.full(len(best), rank))
        distances.append(distance[best])
    kept = np.concatenate(chosen)
    return _Population(rows[kept], values[kept], np.concatenate(ranks), np.concatenate(distances))
