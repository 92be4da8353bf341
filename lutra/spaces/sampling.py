"""Random architectures: those that calibrate and validate a table, and those spread over a cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Rows, SearchSpace
from lutra.spaces.distinct import distinct_places

Costs = Callable[[Rows], npt.NDArray[np.float64]]
"""(N, genes) -> (N,): what each architecture costs."""

_POOL = 20_000
_RANGES = 20
_LEANING = 6.0  # the last choice is then e^6 times as likely as the first


def sample_networks(
    space: SearchSpace, resolutions: Sequence[int], count: int, seed: int
) -> list[Architecture]:
    """``count`` distinct random architectures, spread evenly over the resolutions.

    All that there are, where the space has fewer at these resolutions.
    """
    count = min(count, sum(space.lattice(resolution).count() for resolution in resolutions))
    rng = np.random.default_rng(seed)
    rows: Rows = np.zeros((0, len(space.genes)), dtype=np.int16)
    while len(rows) < count:
        drawn = space.sample(count, rng)
        drawn[:, -1] = np.resize(space.resolution_indices(resolutions), count)
        rng.shuffle(drawn)
        merged = np.concatenate([rows, drawn])
        rows = merged[np.sort(distinct_places(merged))]
    return [space.decode(row) for row in rows[:count]]


def spread_architectures(
    space: SearchSpace,
    costs: Costs,
    resolutions: Sequence[int],
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """(at most ``count``, genes): distinct architectures, spread over a cost.

    The smallest at the lowest resolution and the largest at the highest come first. The others are
    drawn in turn from equally wide ranges of the cost: uniformly drawn genes would give hardly any
    network near its ends. A larger ``count`` begins with what a smaller one gives. Architectures
    of unknown cost (NaN) are left out.
    """
    pool = _pool(space, resolutions, rng)
    values = costs(pool)
    pool, values = pool[np.isfinite(values)], values[np.isfinite(values)]
    edges = np.linspace(values.min(), values.max(), _RANGES + 1)[1:-1]
    ranges = np.digitize(values, edges)
    # By range in an order of chance: the first of each range, then the second of each, and so on.
    order = rng.permutation(len(pool))
    turn = np.empty(len(pool), dtype=np.int64)
    for number in range(_RANGES):
        members = order[ranges[order] == number]
        turn[members] = np.arange(len(members))
    place = np.empty(len(pool), dtype=np.int64)
    place[order] = np.arange(len(pool))
    is_end = (pool[:, None] == _ends(space, resolutions)).all(axis=2).any(axis=1)
    ranked: Rows = pool[np.lexsort((place, turn, ~is_end))[:count]]
    return ranked


def _pool(space: SearchSpace, resolutions: Sequence[int], rng: np.random.Generator) -> Rows:
    """Distinct architectures in an order of their own, each gene's choices weighted to one side.

    How far, and to which side, is a matter of each architecture's own chance. The first choices
    of all genes and the last ones are among them.
    """
    counts = space.choice_counts
    sizes = rng.uniform(-_LEANING, _LEANING, (_POOL, 1, 1))
    choices = np.arange(int(counts[:-1].max()))
    scores = sizes * choices / (counts[:-1, None] - 1).clip(1) + rng.gumbel(
        size=(_POOL, len(counts) - 1, len(choices))
    )
    scores[:, choices >= counts[:-1, None]] = -np.inf
    rows = np.zeros((_POOL + 2, len(counts)), dtype=np.int16)
    rows[:_POOL, :-1] = scores.argmax(axis=2)
    indices = space.resolution_indices(resolutions)
    rows[:, -1] = rng.choice(indices, len(rows))
    rows[_POOL:] = _ends(space, resolutions)
    rows = space.canonical(rows)
    return rows[distinct_places(rows)]


def _ends(space: SearchSpace, resolutions: Sequence[int]) -> Rows:
    """(2, genes): the first choices of all genes, and the last ones."""
    rows = np.stack([np.zeros_like(space.choice_counts), space.choice_counts - 1])
    indices = space.resolution_indices(resolutions)
    rows[:, -1] = indices.min(), indices.max()
    return space.canonical(rows)
