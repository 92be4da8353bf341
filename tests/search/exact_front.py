"""The exact front of two additive costs over a space, an oracle for heuristic ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.costs import OpCost
from lutra.search.fronts.dominance import nondominated
from lutra.spaces import Lattice

Floats = npt.NDArray[np.float64]


def exact_front(first: OpCost, second: OpCost, resolutions: Sequence[int]) -> Floats:
    """(N, 2): every pair of costs that no architecture at these resolutions dominates."""
    prices = np.stack([first.prices, second.prices], axis=1)
    lattices = [first.space.lattice(resolution) for resolution in resolutions]
    fronts = [
        lattice_front(lattice, np.stack([_price(prices, edge.op) for edge in lattice.edges]))
        for lattice in lattices
    ]
    every = np.add(np.concatenate(fronts), [first.constant, second.constant])
    return _front(every)


def lattice_front(lattice: Lattice, steps: Floats) -> Floats:
    """(N, 2): the front of sums over paths of what each edge adds, ``steps`` (edges, 2).

    What is dominated half-way stays dominated, since both paths go on alike: only the front is
    kept at each node.
    """
    arriving: list[list[Floats]] = [[] for _ in range(lattice.nodes)]
    arriving[0] = [np.zeros((1, 2))]
    front = arriving[0][0]
    left = 0
    for edge, step in zip(lattice.edges, steps, strict=True):  # in the order of their sources
        if edge.source != left:
            left = edge.source
            front = _front(np.concatenate(arriving[left]))
        arriving[edge.target].append(front + step)
    return _front(np.concatenate(arriving[-1]))


def _front(values: Floats) -> Floats:
    front: Floats = values[nondominated(values)]
    return front


def _price(prices: Floats, op: int) -> Floats:
    price: Floats = prices[op] if op >= 0 else np.zeros(2)
    return price
