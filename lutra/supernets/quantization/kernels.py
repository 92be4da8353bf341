"""Where a runtime's int8 kernel rounds otherwise than the function on its grid does.

Ties are not rare in averages of four integers, and errors of one step add up over layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lutra.emitters.quantization import INT8, Grid
from lutra.ops.graph import Node
from lutra.supernets.execution import weightless
from lutra.supernets.quantization.hard_swish import hard_swish_table

_ADD_BITS = 20

Kernel = Callable[[Node, Sequence[Tensor], Sequence[Grid], Grid], Tensor]
"""A node's output on its grid, of inputs on theirs; an activation that is fused comes after."""


def kind_of(node: Node) -> str:
    """What kernels are looked up by."""
    return node.function if node.op == "activation" else node.op


def _tflite_hard_swish(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    table = (hard_swish_table(inputs[0], outputs) - outputs.zero_point) * outputs.scale
    levels = (_levels(features[0], inputs[0]) - INT8[0]).long().cpu().numpy()
    return torch.from_numpy(table.astype(np.float32)[levels]).to(features[0].device)


def _tflite_add(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """XNNPACK's, in fixed point: 21 bits for the larger of the two ratios of scales."""
    ratios = [np.float32(on.scale) / np.float32(outputs.scale) for on in inputs]
    shift = max(1, _ADD_BITS + 1 - math.frexp(max(ratios))[1])
    total = torch.full_like(features[0], 1 << (shift - 1), dtype=torch.int64)
    for value, on, ratio in zip(features, inputs, ratios, strict=True):
        steps = _levels(value, on) - on.zero_point
        total += steps.long() * round(math.ldexp(float(ratio), shift))
    levels = ((total >> shift) + outputs.zero_point).clamp(*INT8)
    return (levels - outputs.zero_point).to(features[0].dtype) * outputs.scale


def _tflite_average(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """Halves away from zero, of the stored integers."""
    means = weightless(node, _levels(features[0], inputs[0]))
    rounded = torch.trunc(means + 0.5 * torch.sign(means))
    return (rounded - outputs.zero_point) * outputs.scale


def _onnx_average(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """The mean of real values, divided by the scale: which way a tie goes is chance's."""
    return torch.round(weightless(node, *features) / outputs.scale) * outputs.scale


def _levels(features: Tensor, on: Grid) -> Tensor:
    return torch.round(features / on.scale) + on.zero_point


TFLITE: Mapping[str, Kernel] = {
    "h_swish": _tflite_hard_swish,
    "add": _tflite_add,
    "avg_pool": _tflite_average,
}
ONNX: Mapping[str, Kernel] = {"avg_pool": _onnx_average}
