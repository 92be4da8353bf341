"""From what a training ended with to a network within the budget, which it uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lutra.spaces.base import Rows

Row = npt.NDArray[np.int16]
Upper = Callable[[Rows], npt.NDArray[np.float64]]
"""(N, genes) -> (N,): the milliseconds that each takes at most, as predicted."""


def settled(
    row: Row,
    logits: Sequence[npt.NDArray[np.float64]],
    upper_ms: Upper,
    budget_ms: float,
    fastest: Row,
) -> Row:
    """The row (genes,) within the budget that is nearest to what the indicators say.

    Parts are left out, the least wanted first, until the budget is kept; then those that fit are
    taken in, the most wanted first. ``logits`` has each gene's indicators, from its second choice
    on; the resolution has none. Where nothing left out helps, it is the ``fastest``, which must
    keep the budget.
    """
    row = row.copy()
    while (now_ms := float(upper_ms(row[None])[0])) > budget_ms:
        wanted, smaller = _neighbours(row, logits, -1)
        faster = upper_ms(smaller) < now_ms
        if not faster.any():
            row = fastest.copy()
            break
        row = smaller[np.where(faster, wanted, np.inf).argmin()]
    while True:
        wanted, larger = _neighbours(row, logits, 1)
        taken_ms = upper_ms(larger)
        # What changes nothing is of a block that is not used.
        fits = (taken_ms <= budget_ms) & (taken_ms != upper_ms(row[None]))
        if not fits.any():
            return row
        row = larger[np.where(fits, wanted, -np.inf).argmax()]


def _neighbours(
    row: Row, logits: Sequence[npt.NDArray[np.float64]], step: int
) -> tuple[npt.NDArray[np.float64], Rows]:
    """Rows with one gene's choice a step smaller or larger, and the logits of what that changes.

    (N,) and (N, genes).
    """
    wanted, rows = [], []
    for gene, own in enumerate(logits):
        choice = row[gene] + step
        if 0 <= choice <= len(own):
            rows.append(row.copy())
            rows[-1][gene] = choice
            wanted.append(float(own[max(choice, row[gene]) - 1]))
    return np.array(wanted), np.array(rows, dtype=np.int16).reshape(-1, len(row))
