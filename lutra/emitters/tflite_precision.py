"""How a .tflite file stores feature maps and constants at each precision.

`Float` is fp32; `HalfWeights` and `Int8` override what they store otherwise. They know nothing of
operators and their order, which `tflite.py` translates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lutra.emitters.quantization import (
    INT8,
    Grid,
    Range,
    grid,
    least_weight_scales,
    quantize_bias,
    quantize_weights,
)
from lutra.emitters.tflite_file import TfliteFile
from lutra.ops import Graph, Node, Shape

GRID_KEEPING_OPS = ("max_pool", "avg_pool")
_DEQUANTIZE_HALVES_VERSION = 3
_Array = npt.NDArray[np.float32]


def feature_grids(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Grid]:
    """A grid per feature map; pooling kernels want the same one on both sides."""
    grids = {graph.input: grid(ranges[graph.input], *INT8)}
    for node in graph.nodes:
        keeps = node.op in GRID_KEEPING_OPS
        grids[node.name] = grids[node.inputs[0]] if keeps else grid(ranges[node.name], *INT8)
    return grids


class Float:
    """How feature maps and constants are stored in fp32; the other precisions override it."""

    dtype = "float32"
    quantized = False

    def __init__(self, batch: int) -> None:
        self.file = TfliteFile()
        self._batch = batch

    def dimensions(self, shape: Shape) -> list[int]:
        return [self._batch, shape.height, shape.width, shape.channels]

    def feature(self, name: str, dimensions: list[int]) -> int:
        """The tensor of a feature map of the graph."""
        return self.file.tensor(name, dimensions, self.dtype)

    def ranged(self, name: str, dimensions: list[int], values: Range) -> int:
        """The tensor of a feature map that the graph does not have, with its range."""
        return self.file.tensor(name, dimensions, self.dtype)

    def like(self, name: str, dimensions: list[int], source: str) -> int:
        """A tensor on the same grid as the feature map ``source``."""
        return self.feature(name, dimensions)

    def layer(self, node: Node, weight: _Array, bias: _Array, order: tuple[int, ...]) -> list[int]:
        """Constants of a layer: its weight, axes reordered (first is out), and its bias."""
        laid_out = np.ascontiguousarray(weight.transpose(order))
        return [
            self.file.constant(f"{node.name}.weight", laid_out),
            self.file.constant(f"{node.name}.bias", bias),
        ]

    def scalar(self, name: str, value: float) -> int:
        """A positive constant factor."""
        return self.file.constant(name, np.array([value], dtype=np.float32))

    def lowest(self, name: str, source: str) -> int:
        """A constant that is below everything in the feature map ``source``."""
        return self.file.constant(name, np.array([np.finfo(np.float32).min], dtype=np.float32))


class HalfWeights(Float):
    """Constants of layers in half precision, dequantised when the model is prepared."""

    def layer(self, node: Node, weight: _Array, bias: _Array, order: tuple[int, ...]) -> list[int]:
        laid_out = np.ascontiguousarray(weight.transpose(order))
        return [self._half(f"{node.name}.weight", laid_out), self._half(f"{node.name}.bias", bias)]

    def _half(self, name: str, array: _Array) -> int:
        half = self.file.constant(f"{name}.half", array.astype(np.float16))
        full = self.file.tensor(name, array.shape, self.dtype)
        code, options = schema.BuiltinOperator.DEQUANTIZE, schema.DequantizeOptionsT()
        return self.file.operator(code, _DEQUANTIZE_HALVES_VERSION, [half], full, options)


class Int8(Float):
    """Everything on 8-bit grids."""

    dtype = "int8"
    quantized = True

    def __init__(self, batch: int, grids: Mapping[str, Grid]) -> None:
        super().__init__(batch)
        self._grids = grids

    def feature(self, name: str, dimensions: list[int]) -> int:
        return self._on_grid(name, dimensions, self._grids[name])

    def ranged(self, name: str, dimensions: list[int], values: Range) -> int:
        return self._on_grid(name, dimensions, grid(values, *INT8))

    def like(self, name: str, dimensions: list[int], source: str) -> int:
        return self._on_grid(name, dimensions, self._grids[source])

    def layer(self, node: Node, weight: _Array, bias: _Array, order: tuple[int, ...]) -> list[int]:
        input_scale = self._grids[node.inputs[0]].scale
        steps, scales = quantize_weights(weight, least_weight_scales(bias, input_scale))
        laid_out = np.ascontiguousarray(steps.transpose(order))
        bias_scales = (scales * np.float32(input_scale)).astype(np.float32)
        return [
            self.file.constant(f"{node.name}.weight", laid_out, scales=scales, axis=order.index(0)),
            self.file.constant(
                f"{node.name}.bias", quantize_bias(bias, input_scale, scales), scales=bias_scales
            ),
        ]

    def scalar(self, name: str, value: float) -> int:
        top = INT8[1]
        return self.file.constant(
            name, np.array([top], dtype=np.int8), scales=np.array([value / top], dtype=np.float32)
        )

    def lowest(self, name: str, source: str) -> int:
        on = self._grids[source]
        return self.file.constant(
            name,
            np.array([INT8[0]], dtype=np.int8),
            scales=np.array([on.scale], dtype=np.float32),
            zero_point=on.zero_point,
        )

    def _on_grid(self, name: str, dimensions: list[int], on: Grid) -> int:
        scales = np.array([on.scale], dtype=np.float32)
        return self.file.tensor(
            name, dimensions, self.dtype, scales=scales, zero_point=on.zero_point
        )
