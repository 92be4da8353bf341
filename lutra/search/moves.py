"""How a search moves through a space: random rows, changed genes, neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lutra.spaces import Rows, SearchSpace

Row = npt.NDArray[np.int16]


class Moves:
    """Rows of a space at some of its resolutions; whether they are feasible is not asked here.

    Rows are (N, genes) indices into each gene's choices, the resolution last.
    """

    def __init__(self, space: SearchSpace, resolutions: Sequence[int]) -> None:
        self._space = space
        self._resolutions: Row = np.unique(space.resolution_indices(tuple(resolutions)))
        counts = space.choice_counts.copy()
        counts[-1] = len(self._resolutions)
        self.choice_counts: Row = counts

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """``count`` rows with every gene drawn uniformly; neither canonical nor feasible."""
        # Several times faster than rng.integers with a bound per gene.
        fractions = rng.random((count, len(self.choice_counts)))
        rows: Rows = (fractions * self.choice_counts).astype(np.int16)
        rows[:, -1] = self._resolutions[rows[:, -1]]
        return rows

    def draw_changes(
        self, rows: Rows, columns: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> Rows:
        """Each row with its gene at ``columns`` (N,) changed to another value; not canonical.

        A gene with a single choice keeps it.
        """
        result = rows.copy()
        each = np.arange(len(rows))
        counts = self.choice_counts[columns]
        places = rows[each, columns].astype(np.int64)
        of_resolution = columns == rows.shape[1] - 1
        places[of_resolution] = np.searchsorted(self._resolutions, rows[of_resolution, -1])
        places = (places + rng.integers(1, np.maximum(counts, 2))) % counts
        result[each, columns] = places
        result[of_resolution, -1] = self._resolutions[places[of_resolution]]
        return result

    def neighbours(self, row: Row) -> Rows:
        """The canonical rows one choice away from ``row``, itself canonical."""
        changes = []
        for column, count in enumerate(self.choice_counts):
            choices = self._resolutions if column == len(row) - 1 else np.arange(count)
            rows = np.repeat(row[None, :], count, axis=0)
            rows[:, column] = choices
            changes.append(rows)
        changed = self._space.canonical(np.concatenate(changes))
        different: Rows = changed[(changed != row).any(axis=1)]
        return different
