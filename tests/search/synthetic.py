"""Additive prices and accuracies for search tests, and bounds on the exact optimum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.predictors.accuracy.base import AccuracyPredictor
from lutra.predictors.efficiency.costs import OpCost, macs_cost
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from lutra.spaces import Rows, SearchSpace, get_space

MBV3 = "ofa-mbv3-w1.0"
RESOLUTIONS = (160, 192, 224)


class AdditiveAccuracy(AccuracyPredictor):
    """71 to 80 %: larger ops help with falling returns, each by its own amount."""

    def __init__(self, space: SearchSpace, resolutions: tuple[int, ...], seed: int = 1) -> None:
        self.name = "additive"
        self.space = space.name
        self.resolutions = resolutions
        macs = macs_cost(space).prices
        values = 0.25 * np.log1p(macs / 1e6)
        values += np.random.default_rng(seed).normal(0.0, 0.06, len(values))
        gain = OpCost("accuracy", "%", space, values)
        low, high = gain.cheapest(resolutions)[0], gain.dearest(resolutions)[0]
        scale = 9.0 / (high - low)
        self.gain = OpCost("accuracy", "%", space, values * scale, 71.0 - low * scale)
        self.loss = OpCost("loss", "%", space, -self.gain.prices, -self.gain.constant)
        self.scored: list[bytes] = []

    def predict(self, rows: Rows) -> npt.NDArray[np.float64]:
        self.scored += [row.tobytes() for row in rows]
        return self.gain.of(rows)


def latency(space: SearchSpace, seed: int = 0) -> OpCost:
    """Milliseconds that grow with MACs, unevenly."""
    macs = macs_cost(space).prices
    noise = np.random.default_rng(seed).uniform(0.8, 1.25, len(macs))
    return OpCost("latency", "ms", space, 0.08 * (macs / 1e6) ** 0.85 * noise + 0.02)


def problem(factor: float, name: str = MBV3, resolutions: tuple[int, ...] = RESOLUTIONS) -> Problem:
    """A latency limit of ``factor`` times the fastest subnet's."""
    space = get_space(name)
    cost = latency(space)
    limit = Limit(cost, factor * cost.cheapest(resolutions)[0])
    return Problem(space, AdditiveAccuracy(space, resolutions), (limit,), resolutions)


def optimum(problem: Problem, bins: int = 4000) -> tuple[float, float]:
    """Bounds on the best accuracy under the one limit, by dynamic programming on a latency grid.

    The lower is reached by an architecture (prices rounded up to the grid), the upper by none
    (rounded down).
    """
    accuracy = problem.accuracy
    assert isinstance(accuracy, AdditiveAccuracy)
    (limit,) = problem.limits
    assert limit.cost.constant == 0.0
    exact = limit.cost.prices * bins / limit.maximum
    # The margin is above the rounding of the sums and far below the gaps that are tested.
    up, down = np.ceil(exact + 1e-6), np.floor(exact - 1e-6)
    low, high = (
        max(_best(problem, accuracy, steps.astype(int), bins, r) for r in problem.resolutions)
        for steps in (up, down)
    )
    return low, high


def _best(
    problem: Problem,
    accuracy: AdditiveAccuracy,
    steps: npt.NDArray[np.int_],
    bins: int,
    resolution: int,
) -> float:
    lattice = problem.space.lattice(resolution)
    best = np.full((lattice.nodes, bins + 1), -np.inf)
    best[0, 0] = accuracy.gain.constant
    for edge in lattice.edges:
        taken = steps[edge.op] if edge.op >= 0 else 0
        gain = accuracy.gain.prices[edge.op] if edge.op >= 0 else 0.0
        if taken <= bins:
            moved = best[edge.source, : bins + 1 - taken] + gain
            np.maximum(best[edge.target, taken:], moved, out=best[edge.target, taken:])
    return float(best[-1].max())
