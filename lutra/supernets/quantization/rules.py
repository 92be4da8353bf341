"""Ranges of feature maps by rule, from what they hold on calibration images.

``max`` takes all values in. ``percentile`` and ``kl`` let rare ones saturate, so that the others
get finer steps. Each feature map is kept as a histogram, whatever the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lutra.emitters.quantization import Range, activation_ranges, observe_feature_maps
from lutra.errors import UsageError
from lutra.ops import Graph, Weights

RULES = ("max", "percentile", "kl")
PERCENTILE = 99.99
_SIDE = 2048  # bins from zero to the greatest absolute value, as TensorRT has
_LEVELS = 256
_STRIDE = 16  # bins between the thresholds that are tried
_NEVER = 1e-9  # the share of what a quantised distribution does not have

_Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RangeRule:
    """How a range comes from values: ``max``, ``percentile`` or ``kl``.

    ``percentile`` is how many per cent of the values the range of that rule holds: what is cut is
    cut on both sides alike, and above only where no value is negative. Raises `UsageError` for an
    unknown rule, or a percentile that is not above 50 and at most 100.
    """

    name: str = "max"
    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise UsageError(f"no rule for ranges is called '{self.name}': {', '.join(RULES)}")
        if not 50 < self.percentile <= 100:
            raise UsageError(
                f"a percentile of {self.percentile:g}: above 50 and at most 100, such as"
                f" {PERCENTILE}"
            )

    def __str__(self) -> str:
        return f"{self.name} {self.percentile:g}" if self.name == "percentile" else self.name

    def ranges(
        self, graph: Graph, weights: Weights, inputs: npt.NDArray[np.float32] | None = None
    ) -> dict[str, Range]:
        """The range of every feature map, by name, over ``inputs`` (N, C, H, W), or random ones.

        Raises `ModelError` for values that are not finite.
        """
        limits = activation_ranges(graph, weights, inputs)
        if self.name == "max":
            return limits
        counts = _histograms(graph, weights, inputs, limits)
        return {name: self._range(counts[name], limits[name]) for name in limits}

    def _range(self, counts: _Counts, limits: Range) -> Range:
        if limits[0] == limits[1]:
            return limits
        if self.name == "kl":
            return saturating_range(counts, limits)
        return percentile_range(counts, limits, self.percentile)


def _top(limits: Range) -> float:
    return max(abs(limits[0]), abs(limits[1]))


def _histograms(
    graph: Graph,
    weights: Weights,
    inputs: npt.NDArray[np.float32] | None,
    limits: Mapping[str, Range],
) -> dict[str, _Counts]:
    """How many values of each feature map are in each of 4096 bins, with zero in the middle."""
    counts = {name: np.zeros(2 * _SIDE) for name in limits}

    def observe(name: str, value: torch.Tensor) -> None:
        top = _top(limits[name])
        if top:
            counts[name] += torch.histc(value, 2 * _SIDE, -top, top).numpy()

    observe_feature_maps(graph, weights, observe, inputs)
    return counts


def percentile_range(counts: _Counts, limits: Range, percentile: float) -> Range:
    """The bins that hold so many per cent of the values; ``limits`` are the least and greatest."""
    edges = np.linspace(-_top(limits), _top(limits), len(counts) + 1)
    one_sided = limits[0] >= 0 or limits[1] <= 0
    cut = counts.sum() * (1 - percentile / 100) / (1 if one_sided else 2)
    below = int(np.searchsorted(np.cumsum(counts), cut, side="right"))
    above = int(np.searchsorted(np.cumsum(counts[::-1]), cut, side="right"))
    low = limits[0] if limits[0] >= 0 else max(limits[0], float(edges[below]))
    high = limits[1] if limits[1] <= 0 else min(limits[1], float(edges[len(counts) - above]))
    return low, high


def saturating_range(counts: _Counts, limits: Range) -> Range:
    """The values within a threshold of zero that lose least in 8 bits (Migacz, GTC 2017).

    Least is the Kullback-Leibler divergence of what 256 levels make of the histogram within the
    threshold from the histogram of which all beyond it is at its ends. The bin of zero counts as
    its neighbours do: zero lies on every grid, and most of what a ReLU gives is zero.
    """
    counts = counts.copy()
    counts[_SIDE] = min(counts[_SIDE], max(counts[_SIDE - 1], counts[_SIDE + 1]))
    width = _top(limits) / _SIDE
    first = _SIDE + math.floor(limits[0] / width)
    last = _SIDE + math.ceil(limits[1] / width)
    best, threshold = math.inf, _SIDE
    for bins in range(_SIDE, 0, -_STRIDE):
        low, high = max(_SIDE - bins, first), min(_SIDE + bins, last)
        if high - low < _LEVELS:
            break
        loss = _divergence(counts, low, high)
        if loss < best:
            best, threshold = loss, bins
    return max(limits[0], -threshold * width), min(limits[1], threshold * width)


def _divergence(counts: _Counts, low: int, high: int) -> float:
    """Of the bins from ``low`` to ``high`` on 256 levels, from all that saturate to them."""
    inner = counts[low:high]
    reference = inner.copy()
    reference[0] += counts[:low].sum()
    reference[-1] += counts[high:].sum()
    level = np.arange(len(inner)) * _LEVELS // len(inner)
    filled = inner > 0
    sums = np.bincount(level, inner, _LEVELS)
    shared = np.bincount(level, filled, _LEVELS)
    quantised = np.where(filled, sums[level] / np.maximum(shared[level], 1), 0.0)
    if not quantised.any():
        return math.inf
    p, q = reference / reference.sum(), quantised / quantised.sum()
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], _NEVER))).sum())
