"""How well predictions rank what they predict."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def kendall_tau(first: Floats, second: Floats) -> float:
    """Kendall's tau-b of two (N,) arrays of finite numbers; 1: the same order, -1: the reverse.

    Ties count for neither order; NaN where one array has no two different numbers. Takes time N^2.
    scipy.stats has it in N log N, after half a second of imports.
    """
    pairs = len(first) * (len(first) - 1) // 2
    varied = [pairs - _tied_pairs(values) for values in (first, second)]
    if not all(varied):
        return float("nan")
    agreeing = sum(
        float(np.sign(first[row + 1 :] - first[row]) @ np.sign(second[row + 1 :] - second[row]))
        for row in range(len(first))
    )
    return max(-1.0, min(agreeing / math.sqrt(varied[0]) / math.sqrt(varied[1]), 1.0))


def _tied_pairs(values: Floats) -> int:
    _, counts = np.unique(values, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())
