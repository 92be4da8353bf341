"""What one-gene changes of rows gain and cost, and which promise most when made together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lutra.spaces import Rows

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_BETTER_OF_PAIR = 20  # changes that gain most: one of a pair is among them
_ROUNDING = 1e-9  # shares of a limit that add up to all of it
_PRICES = np.linspace(0.05, 0.95, 11)  # quantiles of what changes are worth per cost


@dataclass(frozen=True, eq=False)
class Changes:
    """The changes of canonical ``rows`` (N, genes) to the ``choices`` (genes, slots) of one gene.

    ``gains`` (N, genes, slots): what each adds to the accuracy, in percent; -inf for what is no
    change. ``added`` (N, genes, slots, limits): what it adds to each limit's cost, and ``room``
    (N, limits): what the limit leaves, both as shares of the limit. Shares add up but for rounding,
    and costs that are no sums but roughly: whether what is made of changes fits is to be asked.
    """

    rows: Rows
    choices: Rows
    gains: Floats
    added: Floats
    room: Floats

    @classmethod
    def known(
        cls,
        rows: Rows,
        choices: Rows,
        different: npt.NDArray[np.bool_],
        gains: Floats,
        relative_costs: tuple[Floats, Floats],
    ) -> Changes:
        """From those (M,) that are ``different`` by `Moves.changes_of`.

        Their ``gains`` (M,), and costs as shares of the limits: theirs (M, limits), and the rows'
        (N, limits).
        """
        after, before = relative_costs
        all_gains = np.full(different.shape, -np.inf)
        all_gains[different] = gains
        added = np.zeros((*different.shape, before.shape[1]))
        added[different] = after - before[np.nonzero(different)[0]]
        return cls(rows, choices, all_gains, added, 1.0 - before + _ROUNDING)

    def pairs(self, count: int) -> tuple[Rows, Places]:
        """Two changes at once: of each row up to ``count`` that should fit and gain most.

        One of the two is among those that gain most of what fits with any other. The rows
        (M, genes), not canonical, and which row (M,) each is of.
        """
        possible = self._fit_with_any()
        pairs = [self._pairs(place, possible[place], count) for place in range(len(self.rows))]
        owners = np.repeat(np.arange(len(pairs)), [len(each) for each in pairs])
        return np.concatenate(pairs), owners

    def _fit_with_any(self) -> npt.NDArray[np.bool_]:
        """(N, genes, slots): which changes should fit with whichever else adds least."""
        change = np.isfinite(self.gains)
        least = np.fmin.reduce(np.where(change[..., None], self.added, np.inf), axis=(1, 2))
        most = self.room - least
        fit: npt.NDArray[np.bool_] = (self.added <= most[:, None, None, :]).all(axis=3) & change
        return fit

    def _pairs(self, place: int, possible: npt.NDArray[np.bool_], count: int) -> Rows:
        room = self.room[place]
        genes, slots = np.nonzero(possible)
        order = np.argsort(-self.gains[place, genes, slots], kind="stable")
        genes, slots = genes[order], slots[order]
        gains, added = self.gains[place, genes, slots], self.added[place, genes, slots]
        most = min(_BETTER_OF_PAIR, len(order))
        fit = (added[:most, None, :] + added <= room).all(axis=2)
        fit &= np.arange(len(order)) > np.arange(most)[:, None]
        fit &= genes != genes[:most, None]
        losses = np.where(fit, -(gains[:most, None] + gains), np.inf).ravel()
        places = np.arange(len(losses))
        if len(losses) > count:  # of thousands only these are put in order
            places = np.flatnonzero(losses <= np.partition(losses, count - 1)[count - 1])
        places = places[np.isfinite(losses[places])]
        best = places[np.argsort(losses[places], kind="stable")[:count]]
        pairs = np.repeat(self.rows[place][None, :], len(best), axis=0)
        for change in np.divmod(best, len(order)):
            gene = genes[change]
            pairs[np.arange(len(best)), gene] = self.choices[gene, slots[change]]
        return pairs

    def sets(self, sizes: Sequence[int]) -> tuple[Rows, Places]:
        """Up to so many changes at once: of each row a set of each size, or less where none fits.

        A change is worth its gain less its cost at a price (a knapsack's Lagrangian relaxation).
        The best change of each of the genes where one is worth most is made, at the lowest price
        at which all should fit. Returned as `pairs` are.
        """
        genes, slots, made = self._worthiest(max(sizes))
        each = np.arange(len(self.rows))[:, None, None]
        values = np.where(made, self.choices[genes, slots], self.rows[each, genes])
        added = np.where(made[..., None], self.added[each, genes, slots], 0.0)
        within = (np.cumsum(added, axis=2) <= self.room[:, None, None, :]).all(axis=3)
        sets, owners = [], []
        for size in np.minimum(sizes, genes.shape[2]):
            fit = within[:, :, size - 1]
            owner = np.flatnonzero(fit.any(axis=1))
            at = owner, fit[owner].argmax(axis=1), slice(size)
            rows = self.rows[owner]
            rows[np.arange(len(owner))[:, None], genes[at]] = values[at]
            sets.append(rows)
            owners.append(owner)
        return np.concatenate(sets), np.concatenate(owners)

    def _worthiest(self, count: int) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
        """(N, prices, count): genes, the slot of each, and whether that is worth its price."""
        cost = self.added.sum(axis=3)
        prices = _prices(self.gains, cost)
        with np.errstate(invalid="ignore"):
            worth = self.gains[:, None] - prices[:, :, None, None] * cost[:, None]
        worth[np.isnan(worth)] = -np.inf
        best = worth.max(axis=3)
        genes = np.argsort(-best, axis=2, kind="stable")[:, :, :count]
        of_genes = np.take_along_axis(worth, genes[..., None], axis=2)
        return genes, of_genes.argmax(axis=3), of_genes.max(axis=3) > 0


def _prices(gains: Floats, cost: Floats) -> Floats:
    """(N, prices): none, then rising ones at which changes of the row are worth nothing."""
    size = len(gains)
    with np.errstate(all="ignore"):
        worthless = np.abs(gains / cost).reshape(size, -1)
    worthless[~np.isfinite(worthless) | (worthless == 0)] = np.inf
    worthless.sort(axis=1)
    known = np.isfinite(worthless).sum(axis=1)
    places = (np.maximum(known - 1, 0)[:, None] * _PRICES).astype(np.int64)
    prices = np.take_along_axis(worthless, places, axis=1)
    rising: Floats = np.where(np.isfinite(prices), prices, 0.0)
    return np.concatenate([np.zeros((size, 1)), rising], axis=1)
