"""Where a runtime's int8 kernel rounds otherwise than the function on its grid does.

Ties are not rare in averages of four integers, and errors of one step add up over layers. After
MLAS (onnxruntime, `qladd_avx2.cpp`) and XNNPACK (LiteRT).
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
    levels = (total >> shift) + outputs.zero_point
    return (levels - outputs.zero_point).to(features[0].dtype) * outputs.scale


def _tflite_raise(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """How an h_sigmoid begins that no layer takes in: plus 3, which is 127 on its own grid."""
    three, on = torch.full_like(features[0], 3.0), Grid(float(np.float32(3.0 / INT8[1])), 0)
    return _tflite_add(node, (features[0], three), (inputs[0], on), outputs)


def _tflite_average(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """Halves away from zero, of the stored integers."""
    means = weightless(node, _levels(features[0], inputs[0]))
    rounded = torch.trunc(means + 0.5 * torch.sign(means))
    return (rounded - outputs.zero_point) * outputs.scale


def _tflite_multiply(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """A tie goes to the even number of steps from zero."""
    return torch.round(_product(features, inputs, outputs)) * outputs.scale


def _onnx_add(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """MLAS's on x86 with AVX2: fused multiplications and additions, the zero points all at once.

    On Arm it is in fixed point, which may round otherwise.
    """
    first, second = (np.float32(on.scale) / np.float32(outputs.scale) for on in inputs)
    left, right, wanted = (np.float32(on.zero_point) for on in (*inputs, outputs))
    fixed = wanted - np.float32(float(first) * float(left) + float(second * right))
    total = torch.full_like(features[0], float(fixed))
    for value, on, ratio in zip(features[::-1], inputs[::-1], (second, first), strict=True):
        total = (_levels(value, on).double() * float(ratio) + total).float()
    return _real(total, outputs)


def _onnx_multiply(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """A tie goes to the even stored integer."""
    return _real(_product(features, inputs, outputs) + outputs.zero_point, outputs)


def _onnx_average(
    node: Node, features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid
) -> Tensor:
    """The mean of real values; a tie, one value in four, goes to the even stored integer."""
    return _real(weightless(node, *features) / outputs.scale + outputs.zero_point, outputs)


def _product(features: Sequence[Tensor], inputs: Sequence[Grid], outputs: Grid) -> Tensor:
    """Integers multiplied, in steps of the output: exact but for one factor."""
    first, second = (np.float32(on.scale) for on in inputs)
    ratio = first * second / np.float32(outputs.scale)
    left, right = (
        _levels(value, on) - on.zero_point for value, on in zip(features, inputs, strict=True)
    )
    return left * right * float(ratio)


def _levels(features: Tensor, on: Grid) -> Tensor:
    return torch.round(features / on.scale) + on.zero_point


def _real(levels: Tensor, on: Grid) -> Tensor:
    return (torch.round(levels) - on.zero_point) * on.scale


TFLITE: Mapping[str, Kernel] = {
    "h_swish": _tflite_hard_swish,
    "h_sigmoid": _tflite_raise,
    "add": _tflite_add,
    "mul": _tflite_multiply,
    "avg_pool": _tflite_average,
}
ONNX: Mapping[str, Kernel] = {"add": _onnx_add, "mul": _onnx_multiply, "avg_pool": _onnx_average}
