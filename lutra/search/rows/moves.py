"""How a search moves through a space: random rows, changed genes, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lutra.spaces import Rows, SearchSpace
from lutra.spaces.distinct import distinct_places

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

    def draw_several_changes(self, rows: Rows, most: int, rng: np.random.Generator) -> Rows:
        """Each row with one to ``most`` of its genes changed; not canonical."""
        changes = rng.integers(1, most + 1, size=len(rows))
        for number in range(most):
            columns = rng.integers(rows.shape[1], size=len(rows))
            changed = self.draw_changes(rows, columns, rng)
            rows = np.where((changes > number)[:, None], changed, rows)
        return rows

    def neighbours(self, row: Row) -> Rows:
        """The canonical rows one choice away from ``row``, itself canonical."""
        return self.changes_of(row[None, :])[0]

    def changes_of(self, rows: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Each canonical row (N, genes) with another choice of one gene, as `slots` has them.

        The canonical rows (M, genes), in order, and which of (N, genes, slots) they are: not what
        the row has, nor of a gene that is inert there, nor of a slot that repeats a choice.
        """
        columns, choices = self._all_choices
        before = np.repeat(rows, len(columns), axis=0)
        near = before.copy()
        near[np.arange(len(near)), np.tile(columns, len(rows))] = np.tile(choices, len(rows))
        near = self._space.canonical(near)
        changed = (near != before).any(axis=1)
        different = np.zeros((len(rows), *self.slots.shape), dtype=bool)
        different[:, self._once] = changed.reshape(len(rows), -1)
        return near[changed], different

    def within_two(self, row: Row) -> Rows:
        """The distinct canonical rows one or two choices away from ``row``, itself canonical."""
        columns, choices = self._changes(row)
        first, second = np.triu_indices(len(columns))
        rows = np.repeat(row[None, :], len(first), axis=0)
        each = np.arange(len(first))
        rows[each, columns[first]] = choices[first]
        rows[each, columns[second]] = choices[second]
        changed = self._space.canonical(rows)
        changed = changed[distinct_places(changed)]
        different: Rows = changed[(changed != row).any(axis=1)]
        return different

    def _changes(self, row: Row) -> tuple[npt.NDArray[np.int64], Row]:
        """Each other choice of each gene: its column and the choice."""
        columns, choices = self._all_choices
        other = choices != row[columns]
        return columns[other], choices[other]

    @cached_property
    def slots(self) -> Rows:
        """The choices of each gene (genes, slots); the last one is repeated where there are less.

        What is no choice of the gene at these resolutions is left out.
        """
        _, choices = self._all_choices
        ends = np.cumsum(self.choice_counts, dtype=np.int64)[:, None] - 1
        starts = ends + 1 - self.choice_counts[:, None]
        slots: Rows = choices[np.minimum(starts + np.arange(self.choice_counts.max()), ends)]
        return slots

    @cached_property
    def _once(self) -> npt.NDArray[np.bool_]:
        """Which (genes, slots) do not repeat a choice."""
        once: npt.NDArray[np.bool_] = np.arange(self.slots.shape[1]) < self.choice_counts[:, None]
        return once

    @cached_property
    def _all_choices(self) -> tuple[npt.NDArray[np.int64], Row]:
        """Every choice of every gene: its column and the choice."""
        choices: list[Row] = [np.arange(count, dtype=np.int16) for count in self.choice_counts]
        choices[-1] = self._resolutions
        columns = np.repeat(np.arange(len(choices)), self.choice_counts)
        return columns, np.concatenate(choices)
