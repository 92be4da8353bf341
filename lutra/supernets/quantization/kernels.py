"""Where a runtime's int8 kernel rounds otherwise than the function on its grid does.

Ties are not rare in averages of four integers, and errors of one step add up over layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from lutra.emitters.quantization import Grid
from lutra.ops.graph import Node
from lutra.supernets.execution import weightless
from lutra.supernets.quantization.hard_swish import hard_swish_table

Kernel = Callable[[Node, Tensor, Grid, Grid], Tensor]
"""A node's output on its grid, of an input on its grid."""


def kind_of(node: Node) -> str:
    """What kernels are looked up by."""
    return node.function if node.op == "activation" else node.op


def _tflite_hard_swish(node: Node, features: Tensor, inputs: Grid, outputs: Grid) -> Tensor:
    table = (hard_swish_table(inputs, outputs) - outputs.zero_point) * outputs.scale
    levels = (_levels(features, inputs) + 128).long().cpu().numpy()
    return torch.from_numpy(table.astype(np.float32)[levels]).to(features.device)


def _tflite_average(node: Node, features: Tensor, inputs: Grid, outputs: Grid) -> Tensor:
    """Halves away from zero, of the stored integers."""
    means = weightless(node, _levels(features, inputs))
    rounded = torch.trunc(means + 0.5 * torch.sign(means))
    return (rounded - outputs.zero_point) * outputs.scale


def _onnx_average(node: Node, features: Tensor, inputs: Grid, outputs: Grid) -> Tensor:
    """The mean of real values, divided by the scale: which way a tie goes is chance's."""
    return torch.round(weightless(node, features) / outputs.scale) * outputs.scale


def _levels(features: Tensor, on: Grid) -> Tensor:
    return torch.round(features / on.scale) + on.zero_point


TFLITE: Mapping[str, Kernel] = {"h_swish": _tflite_hard_swish, "avg_pool": _tflite_average}
ONNX: Mapping[str, Kernel] = {"avg_pool": _onnx_average}
