"""Search where accuracy is not additive: from the exact optima of additive models fitted to it.

An additive model of the score over genes, fitted by weighted least squares to architectures that
were scored, has its best paths by `additive.best_rows`. Those are scored in turn, and the model is
fitted again with weights that favour what is nearly as good as the best. Resolutions that fall
behind are given up. At the others the best of the models and random networks climb to local optima,
which are crossed, and what comes of that climbs in turn. The end is complete: no network one or two
choices from the best is more accurate. Nothing is proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lutra.search.algorithms.additive import Scores, best_rows, paths_of
from lutra.search.algorithms.base import (
    Algorithm,
    Archive,
    Hyperparameters,
    OnStep,
    RankedRows,
    fresh_rows,
    register_algorithm,
)
from lutra.search.algorithms.climbing import can_be_met, climb_from_within, tightened
from lutra.search.algorithms.descent import descend
from lutra.search.algorithms.ridge import AdditiveModel
from lutra.search.problem import Problem
from lutra.search.rows.moves import Row
from lutra.spaces import Rows
from lutra.spaces.distinct import best_distinct

_LABELS = (100,)  # a model that is wrong by more need not be solved to the last path
_TEMPERATURE = 1.0  # percent: what is so much worse than the best counts 1/e in a fit
_MUTATION = 0.1
_CHILD_MUTATION = 0.05
_BEHIND = (0.8, 0.5, 0.4, 0.3)  # percent behind the best, after each round, that ends a resolution
_DESCENT_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class SurrogateHyperparameters(Hyperparameters):
    """How the models are fitted, and the climbs that follow.

    ``samples`` random architectures are scored at each resolution before the first of ``rounds``,
    each of which scores the ``solutions`` best of the model and as many mutants of the best. Of
    ``climbs`` the first ``population`` begin at the models' best and at random, the others at
    crossovers of the ``population`` best that were reached.
    """

    samples: int = 200
    rounds: int = 2
    solutions: int = 20
    population: int = 18
    climbs: int = 108

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in ("samples", "rounds", "solutions", "climbs"):
            self.check_count(count)
        self.check_count("population", 2)


# docs/decisions.md: Surrogates where nothing adds up
class SurrogateSearch(Algorithm[SurrogateHyperparameters]):
    """Exact optima of fitted additive models, then climbs from them, from others and crossovers."""

    name = "surrogate"
    hyperparameters = SurrogateHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: SurrogateHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        archive = Archive(problem, hyperparameters.keep)
        archive.score(problem.anchor[None, :])
        with archive.until_interrupted():
            models = _models(problem, archive, hyperparameters, rng)
            resolutions = tuple(model.resolution for model in models)
            left = Problem(problem.space, problem.accuracy, problem.limits, resolutions)
            starts = [model.best_row for model in models]
            _climb_all(left, starts, archive, hyperparameters, rng, on_step)
            descend(problem, archive, _DESCENT_STEPS)
        return archive.best()


def _models(
    problem: Problem, archive: Archive, chosen: SurrogateHyperparameters, rng: np.random.Generator
) -> list[_Model]:
    """Those of the resolutions that did not fall behind, the best first."""
    models = [
        _Model(part, archive, chosen, rng)
        for resolution in problem.resolutions
        if (part := _at(problem, resolution)) is not None
    ]
    for number in range(chosen.rounds):
        for model in models:
            model.improve(rng)
        best = max(model.best for model in models)
        behind = _BEHIND[min(number, len(_BEHIND) - 1)]
        models = [model for model in models if model.best > best - behind]
    return sorted(models, key=lambda model: -model.best)


def _climb_all(
    problem: Problem,
    starts: list[Row],
    archive: Archive,
    chosen: SurrogateHyperparameters,
    rng: np.random.Generator,
    on_step: OnStep | None,
) -> None:
    """Climb from the starts and from random rows, then from crossovers of what is reached.

    So many climbs together as there are parents, each first within limits a little tighter.
    """
    size, tight = chosen.population, tightened(problem)
    drawn = problem.repair(problem.moves.draw(size, rng), rng)
    begin = np.concatenate([np.array(starts), drawn])[:size]
    best, accuracy = climb_from_within(problem, tight, archive, begin[: chosen.climbs], rng)
    for done in range(len(begin), chosen.climbs, size):
        if on_step is not None:
            on_step(done, chosen.climbs)
        children = _crossovers(problem, best, min(size, chosen.climbs - done), rng)
        rows, reached = climb_from_within(problem, tight, archive, children, rng)
        best, accuracy = np.concatenate([best, rows]), np.concatenate([accuracy, reached])
        kept = best_distinct(best, accuracy, size)
        best, accuracy = best[kept], accuracy[kept]
    if on_step is not None:
        on_step(chosen.climbs, chosen.climbs)


def _crossovers(problem: Problem, parents: Rows, count: int, rng: np.random.Generator) -> Rows:
    """So many canonical rows of two of the parents each, mutated; not all within the limits."""
    first = rng.integers(len(parents), size=count)
    second = (first + rng.integers(1, max(2, len(parents)), size=count)) % len(parents)
    shape = count, parents.shape[1]
    children = np.where(rng.random(shape) < 0.5, parents[first], parents[second])
    mutated = rng.random(shape) < _CHILD_MUTATION
    children = np.where(mutated, problem.moves.draw(count, rng), children)
    return problem.space.canonical(children)


def _at(problem: Problem, resolution: int) -> Problem | None:
    """The problem at one of its resolutions; None where the limits cannot be met there."""
    part = Problem(problem.space, problem.accuracy, problem.limits, (resolution,))
    return part if can_be_met(part) else None


class _Model:
    """An additive model of the accuracy at one resolution, and what it was fitted to."""

    def __init__(
        self,
        problem: Problem,
        archive: Archive,
        chosen: SurrogateHyperparameters,
        rng: np.random.Generator,
    ) -> None:
        self._problem = problem
        self._archive = archive
        self._chosen = chosen
        self.rows: Rows = problem.anchor[None, :]
        self._accuracy = archive.score(self.rows)
        self._score(self._fresh(lambda count: problem.moves.draw(count, rng), chosen.samples, rng))

    @property
    def best(self) -> float:
        """The highest accuracy, in percent."""
        return float(self._accuracy.max())

    @property
    def best_row(self) -> Row:
        """The row (genes,) of that accuracy."""
        row: Row = self.rows[self._accuracy.argmax()]
        return row

    @property
    def resolution(self) -> int:
        """In pixels."""
        return self._problem.resolutions[0]

    def improve(self, rng: np.random.Generator) -> None:
        """Fit, score the model's best, and as many mutants and crossovers of the best so far."""
        count = self._chosen.solutions
        graphs = paths_of(self._problem, self._fitted())
        self._score(self._archive.unseen(best_rows(self._problem, graphs, count, _LABELS).rows))
        order = np.argsort(-self._accuracy, kind="stable")
        parents = self.rows[order[: count // 2 + 1]]
        mutants = self._fresh(lambda number: self._mutants(parents, number, rng), count, rng)
        self._score(mutants)

    def _fresh(self, draw: Callable[[int], Rows], count: int, rng: np.random.Generator) -> Rows:
        return fresh_rows(self._problem, self._archive, draw, count, rng)

    def _mutants(self, parents: Rows, count: int, rng: np.random.Generator) -> Rows:
        children = parents[rng.integers(len(parents), size=count)]
        mutated = rng.random(children.shape) < _MUTATION
        result: Rows = np.where(mutated, self._problem.moves.draw(count, rng), children)
        return result

    def _score(self, rows: Rows) -> None:
        self._accuracy = np.concatenate([self._accuracy, self._archive.score(rows)])
        self.rows = np.concatenate([self.rows, rows])

    def _fitted(self) -> Scores:
        """Ridge regression on the choices, weighted by how near the best each row is."""
        worse = (self._accuracy - self.best) / _TEMPERATURE
        model = AdditiveModel(self._problem.space, self.rows, worse, np.exp(worse))
        return lambda lattice: (model.constant, model.edge_scores(lattice))


register_algorithm(SurrogateSearch())
