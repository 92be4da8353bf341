"""Post-training quantisation to 8 bits: ranges of feature maps, and the grids laid over them.

Real value = scale * (stored integer - zero point). Feature maps get one asymmetric grid each,
weights a symmetric one per output channel, biases the product of both in 32 bits: the scheme of
the TFLite quantisation specification, which onnxruntime's QDQ follows too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import ModelError
from lutra.ops import Graph, Weights

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]

INT8, UINT8 = (-128, 127), (0, 255)  # the integers of feature maps in .tflite and .onnx files

_CALIBRATION_ELEMENTS = 1 << 15
_MAX_SAMPLES = 8
_PART = 16  # inputs that go through the network at once
_INT32_LIMIT = 2**31 - 1
_BIAS_LIMIT = 2**30  # the accumulator starts at the bias and needs as much room again


class Grid(NamedTuple):
    """How a feature map's real values lie on integers."""

    scale: float
    zero_point: int


def calibration_inputs(graph: Graph, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random inputs (N, C, H, W), unit variance; more of them where the input is small."""
    shape = graph.input_shape
    samples = min(_MAX_SAMPLES, max(1, math.ceil(_CALIBRATION_ELEMENTS / shape.elements)))
    size = (samples, shape.channels, shape.height, shape.width)
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def activation_ranges(
    graph: Graph, weights: Weights, inputs: npt.NDArray[np.float32] | None = None
) -> dict[str, Range]:
    """The least and greatest value of every feature map, by name, over ``inputs``.

    ``inputs`` is (N, C, H, W); by default `calibration_inputs`. Raises `ModelError` for a feature
    map with values that are not finite.
    """
    import torch

    ranges: dict[str, Range] = {}

    def observe(name: str, value: torch.Tensor) -> None:
        low, high = (limit.item() for limit in torch.aminmax(value))
        if not math.isfinite(high - low):
            raise ModelError(
                f"feature map {name} has values that are not finite, so 8 bits cannot hold them:"
                " look at the weights and the images"
            )
        known = ranges.get(name, (low, high))
        ranges[name] = (min(low, known[0]), max(high, known[1]))

    observe_feature_maps(graph, weights, observe, inputs)
    return ranges


def observe_feature_maps(
    graph: Graph,
    weights: Weights,
    observe: Callable[[str, torch.Tensor], None],
    inputs: npt.NDArray[np.float32] | None = None,
) -> None:
    """Show ``observe`` every feature map under its name, a part of ``inputs`` after the other."""
    import torch

    from lutra.emitters.torch import torch_module

    features = calibration_inputs(graph) if inputs is None else inputs
    module = torch_module(graph, weights)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads would go on spinning while a worker is timing
    try:
        with torch.inference_mode():
            for start in range(0, len(features), _PART):
                module(torch.from_numpy(features[start : start + _PART]), observe)
    finally:
        torch.set_num_threads(threads)


def grid(values: Range, lowest: int, highest: int) -> Grid:
    """The grid over a range, widened to hold zero; ``lowest``..``highest`` are the integers."""
    low, high = min(values[0], 0.0), max(values[1], 0.0)
    scale = max((high - low) / (highest - lowest), 1e-12)
    return Grid(
        float(np.float32(scale)), int(np.clip(round(lowest - low / scale), lowest, highest))
    )


def quantize_weights(
    weights: npt.NDArray[np.float32], least_scales: npt.NDArray[np.float32] | None = None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Weights of any shape to int8 in -127..127, and a scale (out,) for each of the first axis.

    No scale is below its item of ``least_scales`` (`least_weight_scales`).
    """
    flat = weights.reshape(len(weights), -1)
    highest = np.maximum(flat.max(axis=1), -flat.min(axis=1))
    scales = np.maximum(highest, np.float32(1e-12)) / np.float32(127.0)
    if least_scales is not None:
        scales = np.maximum(scales, least_scales)
    steps = flat / scales[:, None]
    return np.rint(steps, out=steps).astype(np.int8).reshape(weights.shape), scales


def least_weight_scales(
    bias: npt.NDArray[np.float32], input_scale: float
) -> npt.NDArray[np.float32]:
    """The least weight scales (out,) with which `quantize_bias` need not clip.

    Without them, a channel whose weights have faded to nothing would lose its bias.
    """
    return (np.abs(bias.astype(np.float64)) / (_BIAS_LIMIT * input_scale)).astype(np.float32)


def quantize_bias(
    bias: npt.NDArray[np.float32], input_scale: float, weight_scales: npt.NDArray[np.float32]
) -> npt.NDArray[np.int32]:
    """A bias (out,) on the accumulator's grid, input scale times weight scale."""
    steps = np.rint(bias / (weight_scales.astype(np.float64) * input_scale))
    return np.clip(steps, -_INT32_LIMIT, _INT32_LIMIT).astype(np.int32)


def grids(ranges: Mapping[str, Range], lowest: int, highest: int) -> dict[str, Grid]:
    """A grid for every feature map."""
    return {name: grid(values, lowest, highest) for name, values in ranges.items()}
