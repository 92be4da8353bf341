"""Seeded random weights for graphs that have none: timing needs no trained ones."""

from __future__ import annotations

import math
import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lutra.ops.graph import Graph

_NOISE_ELEMENTS = 1 << 22


@lru_cache(maxsize=2)
def _noise(seed: int) -> npt.NDArray[np.float32]:
    """Uniform noise in [-1, 1), drawn once for all layers: drawing for each takes 10x longer."""
    return 2.0 * np.random.default_rng(seed).random(_NOISE_ELEMENTS, dtype=np.float32) - 1.0


def _piece(seed: int, name: str, size: int) -> npt.NDArray[np.float32]:
    noise = _noise(seed)
    start = zlib.crc32(name.encode()) % _NOISE_ELEMENTS
    return (
        np.take(noise, np.arange(start, start + size), mode="wrap")
        if (start + size > _NOISE_ELEMENTS)
        else noise[start : start + size]
    )


def seeded_weights(graph: Graph, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Random float32 arrays by name, as large as trained ones: LeCun uniform, small biases.

    The same graph and seed give the same arrays. Keeping activations near unit variance matters
    for timing too: values that fade into denormals slow a CPU down many times.
    """
    weights = {}
    for name, shape in graph.weight_shapes():
        fan_in = math.prod(shape[1:])
        bound = math.sqrt(3.0 / fan_in) if len(shape) > 1 else 0.1
        noise = _piece(seed, name, math.prod(shape))
        weights[name] = (np.float32(bound) * noise).reshape(shape)
    return weights
