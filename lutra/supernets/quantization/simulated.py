"""A network as its int8 file computes it, in floating point that gradients pass through.

Weights, biases and feature maps lie on the grids of the file that is written afterwards. Backward,
rounding counts as the identity (straight-through); what saturates has no gradient.

Batch normalisations are folded with their running statistics from the first step on, which stay as
they are while scale and shift are trained.

docs/decisions.md: int8 simulated as files compute it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class _Sums(NamedTuple):
    """A layer's sums, integers once rounded (below 2**24), and what 1 is worth by channel."""

    integers: Tensor
    unit: Tensor


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
        return self.feature_maps(images)[self.network.graph.output]

    def feature_maps(self, images: Tensor) -> dict[str, Tensor]:
        """All that the file computes of ``images``, by name, (N, C, H, W) or (N, classes)."""
        values = {self.network.graph.input: self._on_grid(self.network.graph.input, images)}
        for step in self.plan.steps:
            values[step.output] = self._run(step, [values[name] for name in step.inputs])
        return values

    def _run(self, step: Step, inputs: list[Tensor]) -> Tensor:
        sums = None
        if step.node is not None and step.node.has_weights:
            sums = self._summed(step.node, step, inputs[0])
            value = sums.integers * sums.unit
        elif step.node is None or step.raised:
            value = inputs[0] + step.raised if step.raised else inputs[0]
        else:
            value = weightless(step.node, *inputs)
        value = _activated(step, value)
        value = value if step.factor == 1.0 else value * step.factor
        return self._on_grid(step.output, value, lambda: self._stored(step, inputs, sums))

    def _summed(self, node: Node, step: Step, features: Tensor) -> _Sums:
        folded, bias = self.network.folded(node)
        weight = folded.float()
        shift = weight.new_zeros(len(weight)) if bias is None else bias.float()
        scale = self._grid(step.inputs[0]).scale
        weight, shift, weight_scales = _quantised(weight, shift + step.raised, scale)
        levels = features / scale
        unit = weight_scales * scale
        if node.op == "linear":
            return _Sums(functional.linear(levels.flatten(1), weight, shift), unit)
        integers = functional.conv2d(
            levels,
            weight,
            shift,
            stride=node.stride,
            padding=node.padding,
            groups=node.groups,
        )
        return _Sums(channels_last(integers), unit.reshape(-1, 1, 1))

    def _stored(self, step: Step, inputs: list[Tensor], sums: _Sums | None) -> Tensor | None:
        """A step's output as the runtime rounds it; None where it does so by the scale alone."""
        on = self._grid(step.output)
        if sums is not None:
            levels = sums.integers.round().mul_(sums.unit / on.scale).round_()
            return _activated(step, levels.mul_(on.scale))
        kernel = None if step.node is None else self.plan.kernels.get(kind_of(step.node))
        if kernel is None or step.node is None:
            return None
        grids = [self._grid(name) for name in step.inputs]
        return _activated(step, kernel(step.node, inputs, grids, on))

    def _grid(self, name: str) -> Grid:
        source = self.plan.grid_names[name]
        fixed = self.plan.fixed.get(source)
        values = self._observers[source].range if fixed is None else fixed
        return grid(values, self.plan.lowest, self.plan.highest)

    def _on_grid(
        self, name: str, value: Tensor, rounded: Callable[[], Tensor | None] = lambda: None
    ) -> Tensor:
        """A feature map on its grid, ``rounded`` there once its range has followed the batch."""
        source = self.plan.grid_names.get(name)
        if source is None:
            return value
        if self.training and self._observed_at.get(source) == name:
            self._observe(source, value)
        scale, zero_point = self._grid(name)
        with torch.no_grad():
            stored = rounded()
            if stored is None:  # runtimes divide; what torch does below multiplies by the inverse
                stored = (value / scale).round_().mul_(scale)
        return torch.fake_quantize_per_tensor_affine(
            _replaced(value, stored), scale, zero_point, self.plan.lowest, self.plan.highest
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


def _quantised(weight: Tensor, bias: Tensor, input_scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """A layer's weight and bias as its file's integers, by the emitters' own arithmetic.

    And the weight's scale (out,) per channel.
    """
    shifts = bias.detach().cpu().numpy()
    steps, scales = quantize_weights(
        weight.detach().cpu().numpy(), least_weight_scales(shifts, input_scale)
    )
    bias_steps = quantize_bias(shifts, input_scale, scales)
    stored_weight, stored_bias, stored_scales = (
        torch.from_numpy(array.astype(np.float32)).to(weight.device)
        for array in (steps, bias_steps, scales)
    )
    real = stored_scales.reshape(-1, *[1] * (weight.ndim - 1))
    return (
        _replaced(weight / real, stored_weight),
        _replaced(bias / (stored_scales * input_scale), stored_bias),
        stored_scales,
    )


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
