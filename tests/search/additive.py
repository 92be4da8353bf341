"""Additive problems, small enough to try every architecture or as large as the real ones."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.accuracy.base import Accuracies
from lutra.predictors.efficiency.costs import OpCost
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from lutra.spaces import Rows, SearchSpace, get_space, registry
from lutra.spaces.mbconv_spaces import Family, Head, MBConvSpace, Stage
from tests.search.synthetic import latency

ALL = tuple(range(128, 225, 4))
SMALL = "small-mbv3"
SMALL_RESOLUTIONS = (160, 192, 224)


@cache
def small_space() -> SearchSpace:
    """24,300 architectures; known by name without being listed."""
    stages = (
        Stage(8, 2, "relu", se=False, depths=(1, 2)),
        Stage(16, 2, "relu", se=True, depths=(1, 2)),
    )
    family = Family(8, "relu", 8, "relu", True, stages, Head(None, 32, "relu"))
    space = MBConvSpace(SMALL, family)
    space.resolutions = SMALL_RESOLUTIONS
    return registry._SPACES.setdefault(SMALL, space)


def model(space: SearchSpace, resolutions: tuple[int, ...], seed: int = 0) -> AdditivePredictor:
    """Larger choices are better, each gene's by its own amount, with falling returns."""
    rng = np.random.default_rng(seed)
    coefficients = np.zeros((len(space.genes), int(space.choice_counts.max())))
    for gene, choices in enumerate(space.choice_counts[:-1]):
        steps = rng.exponential(0.02, choices - 1) * 0.7 ** np.arange(choices - 1)
        coefficients[gene, 1:choices] = steps.cumsum()
    sizes = np.array(space.resolutions, dtype=float)
    coefficients[-1, : len(sizes)] = 0.6 * np.log(sizes / sizes[0])
    return AdditivePredictor(space, resolutions, 85.0, -2.7, coefficients, "made up", {})


def additive_problem(
    factor: float, name: str = "ofa-mbv3-w1.0", resolutions: tuple[int, ...] = ALL, seed: int = 0
) -> Problem:
    """A latency limit of ``factor`` times the fastest subnet's."""
    space = get_space(name)
    cost = latency(space, seed)
    limit = Limit(cost, factor * cost.cheapest(resolutions)[0])
    return Problem(space, model(space, resolutions, seed), (limit,), resolutions)


@cache
def every_small_row() -> Rows:
    """All architectures of the small space."""
    space = small_space()
    rows = np.array(list(product(*map(range, space.choice_counts))), dtype=np.int16)
    return np.unique(space.canonical(rows), axis=0)


def small_problem(seed: int, limits: int = 1) -> Problem:
    """Limits, each with a constant, that a random share of the small space meets."""
    space = small_space()
    rng = np.random.default_rng(seed)
    chosen = []
    for number in range(limits):
        prices = latency(space, seed + number).prices * rng.uniform(0.5, 1.5)
        cost = OpCost(f"cost {number}", "ms", space, prices, rng.uniform(-0.1, 0.3))
        share = rng.uniform(0.1, 1.0) if number else 10 ** rng.uniform(-4, 0)
        chosen.append(Limit(cost, float(np.quantile(cost.of(every_small_row()), share))))
    resolutions = SMALL_RESOLUTIONS[: rng.integers(1, 4)]
    return Problem(space, model(space, resolutions, seed), tuple(chosen), resolutions)


def feasible_small_rows(made: Problem) -> tuple[Rows, Accuracies]:
    """All that meet the limits, best first, and their accuracy."""
    rows = every_small_row()
    rows = rows[made.constraints.feasible(rows)]
    accuracy = made.accuracy.predict(rows)
    order = np.argsort(-accuracy, kind="stable")
    return rows[order], accuracy[order]
