"""Inputs for a model when only its time matters: random features, valid indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # numpy has it since 1.20, boards may have less
    import numpy.typing as npt

_NOISE = np.random.default_rng(0).standard_normal(1 << 18, dtype=np.float32)
_STEPS_PER_UNIT = 32  # of an 8-bit grid that reaches four standard deviations


def random_input(shape: Sequence[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of a shape and type: normal noise, also on 8-bit grids; zeros for other integers.

    Zeros are valid for token ids, lengths and masks. Raises ValueError for an open shape and
    for a type that is no number.
    """
    if not all(isinstance(size, (int, np.integer)) and size > 0 for size in shape):
        raise ValueError(f"the sizes {list(shape)} are not all numbers above 0")
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.resize(_NOISE, shape).astype(kind)
    if kind in (np.int8, np.uint8):
        middle = 0 if kind == np.int8 else 128
        grid: npt.NDArray[Any] = np.rint(np.resize(_NOISE, shape) * _STEPS_PER_UNIT) + middle
        grid = np.clip(grid, np.iinfo(kind).min, np.iinfo(kind).max)
        return grid.astype(kind)
    if kind.kind in "iub":
        return np.zeros(shape, dtype=kind)
    raise ValueError(f"inputs of type {kind} are not known")
