"""Random architectures: the networks that calibrate and validate a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Rows, SearchSpace


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
        _, first = np.unique(merged, axis=0, return_index=True)
        rows = merged[np.sort(first)]
    return [space.decode(row) for row in rows[:count]]
