"""A network as its int8 file computes it, in floating point that gradients pass through.

Weights, biases and feature maps lie on the grids of the file that is written afterwards. Backward,
rounding counts as the identity (straight-through); what saturates has no gradient.

Batch normalisations are folded with their running statistics from the first step on, which stay as
they are while scale and shift are trained.

docs/decisions.md: int8 simulated as files compute it
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.emitters.quantization import (
    Grid,
    Range,
    grid,
    least_weight_scales,
    quantize_bias,
    quantize_weights,
)
from lutra.errors import TrainingError
from lutra.ops.graph import Node
from lutra.supernets.execution import channels_last, weightless
from lutra.supernets.quantization.kernels import kind_of
from lutra.supernets.quantization.observers import Observer, observer_of
from lutra.supernets.quantization.plans import Plan, Step, plan_of
from lutra.supernets.subnet import Subnet

_FUNCTIONS = {"relu": functional.relu, "relu6": functional.relu6}


class SimulatedInt8(nn.Module):
    """``network`` in the int8 of a ``format``: (N, C, H, W) images to (N, classes).

    ``ranges`` are those of the graph's feature maps, as emitters take them. While it is trained,
    ranges of quantised ones follow the batches (``observer``: ``moving``, ``window-mean`` or
    ``window-max``). Raises `UsageError` for an unknown format or observer.
    """

    def __init__(
        self,
        network: Subnet,
        format: str,
        ranges: Mapping[str, Range],
        observer: str = "moving",
    ) -> None:
        super().__init__()
        self.network = network
        self.plan: Plan = plan_of(network.graph, format)
        self._given = dict(ranges)
        self._observed_at: dict[str, str] = {}  # the first feature map that lies on a range's grid
        for name in (network.graph.input, *(step.output for step in self.plan.steps)):
            source = self.plan.grid_names.get(name)
            if source is not None and source not in self.plan.fixed:
                self._observed_at.setdefault(source, name)
        self._observers: dict[str, Observer] = {
            name: observer_of(observer)(ranges[name]) for name in self._observed_at
        }

    def ranges(self) -> dict[str, Range]:
        """The range of every feature map of the graph: trained where this format quantises it."""
        trained = {name: observer.range for name, observer in self._observers.items()}
        return {**self._given, **trained}

    def get_extra_state(self) -> dict[str, Any]:
        """Where the ranges are, for a training that goes on."""
        return {name: observer.state() for name, observer in self._observers.items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Put the ranges there."""
        for name, observer in self._observers.items():
            observer.restore(state[name])

    def forward(self, images: Tensor) -> Tensor:
        graph = self.network.graph
        values = {graph.input: self._on_grid(graph.input, images)}
        for step in self.plan.steps:
            inputs = [values[name] for name in step.inputs]
            value = self._on_grid(step.output, self._computed(step, inputs))
            kernel = self.plan.kernels.get(kind_of(step.node)) if step.node else None
            if kernel is not None and step.node is not None:
                given = [features.detach() for features in inputs]
                grids = [self._grid(name) for name in step.inputs]
                stored = kernel(step.node, given, grids, self._grid(step.output))
                value = _replaced(value, _activated(step, stored))
            values[step.output] = value
        return values[graph.output]

    def _computed(self, step: Step, inputs: list[Tensor]) -> Tensor:
        if step.node is not None and step.node.has_weights:
            value = self._weighted(step.node, step, inputs[0])
        else:
            value = inputs[0] if step.node is None else weightless(step.node, *inputs)
            value = value + step.raised if step.raised else value
        value = _activated(step, value)
        return value if step.factor == 1.0 else value * step.factor

    def _weighted(self, node: Node, step: Step, features: Tensor) -> Tensor:
        folded, bias = self.network.folded(node)
        weight = folded.float()
        shift = weight.new_zeros(len(weight)) if bias is None else bias.float()
        shift = shift + step.raised
        weight, shift = _quantised(weight, shift, self._grid(step.inputs[0]).scale)
        if node.op == "linear":
            return functional.linear(features.flatten(1), weight, shift)
        return channels_last(
            functional.conv2d(
                features,
                weight,
                shift,
                stride=node.stride,
                padding=node.padding,
                groups=node.groups,
            )
        )

    def _grid(self, name: str) -> Grid:
        source = self.plan.grid_names[name]
        fixed = self.plan.fixed.get(source)
        values = self._observers[source].range if fixed is None else fixed
        return grid(values, self.plan.lowest, self.plan.highest)

    def _on_grid(self, name: str, value: Tensor) -> Tensor:
        source = self.plan.grid_names.get(name)
        if source is None:
            return value
        if self.training and self._observed_at.get(source) == name:
            self._observe(source, value)
        scale, zero_point = self._grid(name)
        return torch.fake_quantize_per_tensor_affine(
            value, scale, zero_point, self.plan.lowest, self.plan.highest
        )

    def _observe(self, name: str, value: Tensor) -> None:
        low, high = (limit.item() for limit in torch.aminmax(value.detach()))
        if not math.isfinite(high - low):
            raise TrainingError(
                f"quantisation-aware training: feature map {name} has values that are not finite;"
                " try a smaller learning rate"
            )
        self._observers[name].observe((low, high))


def _activated(step: Step, value: Tensor) -> Tensor:
    return value if step.function == "none" else _FUNCTIONS[step.function](value)


def _quantised(weight: Tensor, bias: Tensor, input_scale: float) -> tuple[Tensor, Tensor]:
    """A layer's weight and bias as its file holds them, by the emitters' own arithmetic."""
    shifts = bias.detach().cpu().numpy()
    steps, scales = quantize_weights(
        weight.detach().cpu().numpy(), least_weight_scales(shifts, input_scale)
    )
    bias_steps = quantize_bias(shifts, input_scale, scales)
    stored = (
        (weight, steps * scales.reshape(-1, *[1] * (steps.ndim - 1))),
        (bias, bias_steps * (scales * np.float32(input_scale))),
    )
    stored_weight, stored_bias = (
        _replaced(value, torch.from_numpy(array.astype(np.float32)).to(value.device))
        for value, array in stored
    )
    return stored_weight, stored_bias


def _replaced(value: Tensor, stored: Tensor) -> Tensor:
    result: Tensor = _StraightThrough.apply(value, stored)  # type: ignore[no-untyped-call]
    return result


class _StraightThrough(torch.autograd.Function):
    """What a tensor is replaced by; the gradient is as if it had not been."""

    @staticmethod
    def forward(context: Any, value: Tensor, stored: Tensor) -> Tensor:
        """The numbers that are stored in the place of ``value``."""
        return stored

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of what was replaced."""
        return gradients[0], None
