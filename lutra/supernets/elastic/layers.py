"""Elastic layers: one set of weights of which smaller layers are slices.

Width is a prefix of the channels; a smaller kernel is the centre of the next larger one, through a
matrix of its own that all channels share (Cai et al., 2020, section 3.3).
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.ops.graph import Node
from lutra.supernets.subnet import Subnet


class Transforms(nn.Module):
    """Holds the matrices between kernel sizes: ``7to5_matrix`` (25x25), ``5to3_matrix`` (9x9)."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        for size in range(largest, 3, -2):
            smaller = size - 2
            name = f"{size}to{smaller}_matrix"
            matrix = torch.empty(smaller**2, smaller**2)
            if not matrix.is_meta:  # where torch would import its compiler for it
                nn.init.eye_(matrix)
            self.register_parameter(name, nn.Parameter(matrix))

    def resized(self, weight: Tensor, kernel: int) -> Tensor:
        """Depthwise weights (C, 1, K, K) at a smaller kernel size, step by step."""
        while weight.shape[-1] > kernel:
            size = weight.shape[-1]
            centre = weight[:, :, 1:-1, 1:-1].flatten(2)
            matrix = self.get_parameter(f"{size}to{size - 2}_matrix")
            weight = functional.linear(centre, matrix).reshape(-1, 1, size - 2, size - 2)
        return weight


class ElasticLayer:
    """The weights of one node of the largest network, and the slices that smaller ones use.

    It holds no weights: ``layer`` and the others are modules of the supernet, under OFA's names.
    """

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        norm: nn.BatchNorm2d | None,
        transforms: Transforms | None,
    ) -> None:
        self.layer = layer
        self.norm = norm
        self.transforms = transforms

    def weight(self, shape: tuple[int, ...]) -> Tensor:
        """The weight that a node of this shape uses: (out, in / groups, K, K) or (out, in)."""
        weight = self.layer.weight[: shape[0], : shape[1]]
        if self.transforms is not None:
            weight = self.transforms.resized(weight, shape[-1])
        return weight

    def bias(self, channels: int) -> Tensor | None:
        return None if self.layer.bias is None else self.layer.bias[:channels]

    def run(self, node: Node, shape: tuple[int, ...], features: Tensor) -> Tensor:
        """The node's output, normalised."""
        return self.run_with(self.weight(shape), node, features)

    def run_with(
        self, weight: Tensor, node: Node, features: Tensor, scale: Tensor | None = None
    ) -> Tensor:
        """The node's output with a weight in the place of its own, normalised, times ``scale``."""
        bias = self.bias(len(weight))
        if node.op == "linear":
            return functional.linear(features.flatten(1), weight, bias)
        features = functional.conv2d(
            features, weight, bias, node.stride, node.padding, groups=node.groups
        )
        return features if self.norm is None else sliced_norm(self.norm, features, scale)

    def copy_to(self, subnet: Subnet, name: str) -> None:
        """Fill a subnet's layer of that name."""
        layer = subnet.layers[name]
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        channels = len(layer.weight)
        layer.weight.copy_(self.weight(tuple(layer.weight.shape)))
        bias = self.bias(channels)
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias)
        if self.norm is not None:
            own = subnet.norms[name].state_dict()
            for part, values in self.norm.state_dict().items():
                own[part].copy_(values[:channels] if values.dim() else values)


class Recomputing(threading.local):
    """A context in which norms leave their statistics alone: the features were counted before.

    Per thread, as a GPU's backward pass has one of its own; entered as often as is recomputed.
    """

    active = False

    def __enter__(self) -> None:
        self.active = True

    def __exit__(self, *problem: object) -> None:
        self.active = False


recomputing = Recomputing()


def sliced_norm(norm: nn.BatchNorm2d, features: Tensor, scale: Tensor | None = None) -> Tensor:
    """Batch normalisation by the first channels of ``norm``; training updates their statistics,

    but not while `recomputing`. A ``scale`` (one number) multiplies the result, without a feature
    map more.
    """
    channels = features.shape[1]
    weight, bias = norm.weight[:channels], norm.bias[:channels]
    if scale is not None:
        weight, bias = weight * scale, bias * scale
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return functional.batch_norm(
        features,
        norm.running_mean[:channels],
        norm.running_var[:channels],
        weight,
        bias,
        norm.training,
        0.0 if recomputing.active else norm.momentum or 0.0,
        norm.eps,
    )
