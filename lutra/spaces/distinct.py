"""Which rows of an array of architectures are distinct, and what each is known by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.spaces.base import Rows


def distinct_places(rows: Rows) -> npt.NDArray[np.intp]:
    """The place of the first of each distinct row of (N, genes), in the order of the rows' values.

    Like `numpy.unique` of whole rows, in a tenth of its time: it compares field by field. Rows are
    choices, none below 0, whose bytes sort as their values do where the high byte is first.
    """
    high_first = np.ascontiguousarray(rows, dtype=">i2")
    keys = high_first.view(f"S{high_first.itemsize * rows.shape[1]}").ravel()
    places: npt.NDArray[np.intp] = np.unique(keys, return_index=True)[1]
    return places


def best_distinct(rows: Rows, scores: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    """The places of up to ``count`` distinct rows (N, genes) of the highest ``scores`` (N,).

    The best first; of equal ones the first.
    """
    places = distinct_places(rows)
    best: npt.NDArray[np.intp] = places[np.lexsort((places, -scores[places]))][:count]
    return best


def row_keys(rows: Rows) -> list[bytes]:
    """Each row's bytes, to look it up by."""
    size = rows.shape[1] * rows.itemsize
    keys: list[bytes] = np.ascontiguousarray(rows).view(f"V{size}").ravel().tolist()
    return keys
