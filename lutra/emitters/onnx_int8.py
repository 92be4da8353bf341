"""An fp32 ONNX model rewritten to 8 bits, in the form that onnxruntime's optimiser takes (QDQ).

Every operator stays a float operator between DequantizeLinear and QuantizeLinear nodes; the
runtime fuses each such group into one integer kernel. Which feature maps are quantised follows
``onnxruntime.quantization.quantize_static`` with uint8 activations and int8 weights per channel,
so that a latency measured here is the one that users of that tool see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lutra.emitters.onnx_model import Array, OnnxModel, Operator
from lutra.emitters.quantization import (
    UINT8,
    Range,
    grids,
    least_weight_scales,
    quantize_bias,
    quantize_weights,
)
from lutra.errors import ModelError

_WEIGHTED = {"Conv", "Gemm"}
_QUANTIZED = {*_WEIGHTED, "Add", "Mul", "GlobalAveragePool"}
_KEEPS_GRID = {"MaxPool", "AveragePool", "Flatten"}
_SATURATING = {"Relu", "Clip"}


def quantized(model: OnnxModel, ranges: Mapping[str, Range]) -> OnnxModel:
    """The fp32 ``model`` in 8 bits; its input and output remain float32.

    ``ranges`` has the least and greatest value of every feature map of the graph, by its name in
    ``model``. Raises KeyError for a feature map that is to be quantised and has none, `ModelError`
    for a range that holds values which an activation that is left out would have cut off.
    """
    kept, grid_names = plan(model)
    _require_saturating(model, kept, ranges)
    maps = _FeatureMaps(model.input.name, model.output.name, grid_names)
    flat = {item.output: ranges[item.inputs[0]] for item in kept if item.type == "Flatten"}
    known = {**flat, **ranges}
    chosen = grids({name: known[name] for name in grid_names.values()}, *UINT8)
    operators = list(maps.round_trip(model.input.name))
    arrays: dict[str, Array] = {}
    for name, (scale, zero_point) in chosen.items():
        arrays |= _grid_arrays(name, np.array(scale, np.float32), np.array(zero_point, np.uint8))
    for operator in kept:
        if operator.type in _WEIGHTED:
            input_scale = chosen[grid_names[operator.inputs[0]]].scale
            arrays |= _layer_arrays(operator, model.arrays, input_scale)
            operators += [_dequantized(name) for name in operator.constants]
        else:
            arrays |= {name: model.arrays[name] for name in operator.constants}
        operators.append(maps.rewired(operator))
        operators += maps.round_trip(operator.output)
    return replace(model, operators=tuple(operators), arrays=arrays)


def plan(model: OnnxModel) -> tuple[list[Operator], dict[str, str]]:
    """The operators to keep, and for each feature map to quantise the one whose grid it lies on.

    A Relu or Clip that alone reads a quantised feature map goes: the operator before it takes over
    its output, and saturation to that output's range does what the activation did.
    """
    readers = Counter([model.output.name])
    readers.update(name for operator in model.operators for name in operator.inputs)
    kept: dict[str, Operator] = {}
    grid_names: dict[str, str] = {}
    for operator in model.operators:
        source, output = operator.inputs[0], operator.output
        kept[output] = operator
        if operator.type in _QUANTIZED:
            for name in (*operator.inputs, output):
                grid_names.setdefault(name, name)
        elif operator.type in _KEEPS_GRID and source in grid_names:
            grid_names[output] = grid_names[source]
        elif operator.type in _SATURATING and source in grid_names:
            if source in kept and readers[source] == 1:
                kept[output] = replace(kept.pop(source), output=output)
                del grid_names[source]
            grid_names[output] = output
    return list(kept.values()), grid_names


def _require_saturating(
    model: OnnxModel, kept: list[Operator], ranges: Mapping[str, Range]
) -> None:
    """Raise `ModelError` where saturation to a range is not all that a dropped activation does."""
    types = {operator.output: operator.type for operator in kept}
    for operator in model.operators:
        if operator.type not in _SATURATING or types.get(operator.output) == operator.type:
            continue
        bounds = [float(model.arrays[name]) for name in operator.constants]
        lowest, highest = bounds or (0.0, math.inf)
        low, high = ranges[operator.output]
        if low < lowest or high > highest:
            raise ModelError(
                f"the range of {operator.name} in int8 is {low:g} to {high:g}, beyond what"
                f" {operator.type} gives, {lowest:g} to {highest:g}: give it a range within"
            )


@dataclass(frozen=True)
class _FeatureMaps:
    """What each quantised feature map is called before, in and after 8 bits.

    ``grid_names`` has every quantised feature map with the one whose grid it lies on.
    """

    input: str
    output: str
    grid_names: Mapping[str, str]

    def written(self, name: str) -> str:
        """What the operator that computes the feature map writes."""
        return f"{name}.float" if name == self.output and name in self.grid_names else name

    def read(self, name: str) -> str:
        """What the operators that use the feature map read."""
        return name if name == self.output or name not in self.grid_names else f"{name}.dequantized"

    def rewired(self, operator: Operator) -> Operator:
        inputs = tuple(self.read(name) for name in operator.inputs)
        return replace(operator, inputs=inputs, output=self.written(operator.output))

    def round_trip(self, name: str) -> Iterator[Operator]:
        """A feature map's way to 8 bits and back; nothing if it is not quantised."""
        if name not in self.grid_names:
            return
        constants = _grid_constants(self.grid_names[name])
        integers = f"{name}.quantized"
        source = (self.written(name),)
        yield Operator("QuantizeLinear", f"{name}.quantize", source, integers, constants)
        result = self.read(name)
        yield Operator("DequantizeLinear", f"{name}.dequantize", (integers,), result, constants)


def _grid_constants(name: str) -> tuple[str, str]:
    return f"{name}.scale", f"{name}.zero_point"


def _grid_arrays(name: str, scales: Array, zero_points: Array) -> dict[str, Array]:
    return dict(zip(_grid_constants(name), (scales, zero_points), strict=True))


def _dequantized(name: str) -> Operator:
    """A weight or bias from its integers; each channel, the first axis, has a scale of its own."""
    constants = (f"{name}.quantized", *_grid_constants(name))
    return Operator("DequantizeLinear", f"{name}.dequantize", (), name, constants, {"axis": 0})


def _layer_arrays(
    operator: Operator, arrays: Mapping[str, Array], input_scale: float
) -> dict[str, Array]:
    """What `_dequantized` reads for the weight and bias of a layer."""
    weight, *rest = operator.constants
    biases = {name: arrays[name] for name in rest}
    least = [least_weight_scales(bias, input_scale) for bias in biases.values()]
    steps, scales = quantize_weights(arrays[weight], *least)
    result: dict[str, Array] = {f"{weight}.quantized": steps}
    result |= _grid_arrays(weight, scales, np.zeros(len(scales), np.int8))
    for name, bias in biases.items():
        result[f"{name}.quantized"] = quantize_bias(bias, input_scale, scales)
        bias_scales = scales * np.float32(input_scale)
        result |= _grid_arrays(name, bias_scales, np.zeros(len(scales), np.int32))
    return result
