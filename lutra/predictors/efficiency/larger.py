"""Making the larger of two additive costs small: exact optima of weighted means, and a bound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.costs import OpCost, total_costs
from lutra.spaces import Rows

_STEPS = 50


def least_larger(first: OpCost, second: OpCost, resolution: int) -> tuple[float, Rows]:
    """A lower bound on the larger of two costs at a resolution, and rows (N, genes) near it.

    A weighted mean of two costs is never above the larger, so its exact minimum is a bound. Each
    step takes the weights at which the two best rows known have the same mean: their optimum is a
    better row, or no weights give a higher bound. Returns infinity and no rows where every
    architecture has an unpriced op.
    """
    costs, lattice = (first, second), first.space.lattice(resolution)

    def optimum(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int16] | None:
        total, row = lattice.cheapest(weights[0] * first.prices + weights[1] * second.prices)
        return row if np.isfinite(total) else None

    found = [row for weights in np.eye(2) if (row := optimum(weights)) is not None]
    if not found:
        return np.inf, np.zeros((0, len(first.space.genes)), dtype=np.int16)
    low, high = total_costs(costs, np.stack(found))  # both costs of each row: (2,)
    if low[0] >= low[1]:
        return float(low[0]), np.stack(found[:1])
    if high[1] >= high[0]:
        return float(high[1]), np.stack(found[1:])
    bound = max(low[0], high[1])
    for _ in range(_STEPS):
        weights = np.array([low[1] - high[1], high[0] - low[0]])
        weights /= weights.sum()
        row = optimum(weights)
        assert row is not None
        values = total_costs(costs, row[None, :])[0]
        found.append(row)
        bound = max(bound, weights @ values)
        if weights @ values >= (1.0 - 1e-9) * (weights @ low):
            break
        low, high = (values, high) if values[0] < values[1] else (low, values)
    return float(bound), np.stack(found)
