"""A network on its own: plain torch layers for a graph's nodes, without elastic code.

It is what a supernet's subnet is extracted to, fine-tuned as and exported from, and what the same
architecture trained alone is.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.ops import Graph
from lutra.ops.graph import Node
from lutra.supernets.execution import Observe, run_graph

_Module = TypeVar("_Module", bound=nn.Module)


class Subnet(nn.Module):
    """A graph as a module that can be trained: (N, C, H, W) images to (N, classes).

    A node's layer and its batch normalisation are under the node's name, with slashes. The weights
    are not initialised: `initialise` does. ``network(images, observe)`` shows feature maps by name.
    """

    def __init__(self, graph: Graph, *, norm_epsilon: float = 1e-5, dropout: float = 0.0) -> None:
        super().__init__()
        self.graph = graph
        self.dropout = dropout
        self.layers = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        for node in graph.nodes:
            if node.has_weights:
                shape = graph.weight_shape(node)
                self.layers[_key(node)] = layer_of(node, shape)
                if node.bias == "batchnorm":
                    self.norms[_key(node)] = nn.BatchNorm2d(shape[0], eps=norm_epsilon)

    def forward(self, images: Tensor, observe: Observe | None = None) -> Tensor:
        return run_graph(self.graph, images, self._weighted, observe)

    def _weighted(self, node: Node, features: Tensor) -> Tensor:
        if node.op == "linear":
            features = functional.dropout(features.flatten(1), self.dropout, self.training)
        result: Tensor = self.layers[_key(node)](features)
        return self.norms[_key(node)](result) if node.bias == "batchnorm" else result

    def layer(self, node: Node) -> nn.Conv2d | nn.Linear:
        """The layer of a node that has weights."""
        layer = self.layers[_key(node)]
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        return layer

    def norm(self, node: Node) -> nn.BatchNorm2d:
        """The batch normalisation of a node that has one."""
        norm = self.norms[_key(node)]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm

    @torch.no_grad()
    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The weights as emitters take them, batch normalisations folded in (in inference)."""
        arrays = {}
        for node in self.graph.nodes:
            if node.has_weights:
                weight, bias = self.folded(node)
                arrays[f"{node.name}.weight"] = weight.float().cpu().numpy().copy()
                if bias is not None:
                    arrays[f"{node.name}.bias"] = bias.float().cpu().numpy().copy()
        return arrays

    def folded(self, node: Node) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias with its batch normalisation in them, as in inference."""
        layer = self.layer(node)
        if node.bias != "batchnorm":
            return layer.weight, layer.bias
        norm = self.norm(node)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        return layer.weight.double() * scale[:, None, None, None], bias


def layer_of(node: Node, shape: tuple[int, ...]) -> nn.Conv2d | nn.Linear:
    """The layer of a node whose weight has this shape; its numbers are whatever was in memory."""
    out, inner = shape[:2]
    layer: nn.Conv2d | nn.Linear
    with torch.device("meta"):
        if node.op == "linear":
            layer = nn.Linear(inner, out)
        else:
            layer = nn.Conv2d(
                inner * node.groups,
                out,
                node.kernel,
                stride=node.stride,
                padding=node.padding,
                groups=node.groups,
                bias=node.bias == "bias",
            )
    return with_memory(layer)


def with_memory(module: _Module, device: str | None = None) -> _Module:
    """Give a module on the device "meta" memory on another one, or on torch's default.

    The numbers are whatever was there. `torch.nn.Module.to_empty` takes longer, as each tensor
    passes what torch compiles with.
    """
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            part.register_parameter(name, nn.Parameter(empty, parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))
    return module


def initialise(module: nn.Module, seed: int | None = None) -> None:
    """Fresh weights: He et al.'s normal distribution by fan-out, the classifier near zero.

    ``seed`` makes them the same each time, without it they are drawn from torch's generator.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or layer.weight.is_meta:
            continue  # on the device "meta" there are no numbers
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", generator=generator)
        else:
            nn.init.normal_(layer.weight, 0.0, 0.01, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _key(node: Node) -> str:
    return node.name.replace(".", "/")  # torch allows no dot in a module's name
