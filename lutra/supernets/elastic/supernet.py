"""A supernet: the weights of every network of a space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lutra.ops import OpConfig
from lutra.ops.graph import Node
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import SearchSpace
from lutra.spaces.registry import get_space
from lutra.supernets.elastic.layers import ElasticLayer, Recomputing, Transforms, recomputing
from lutra.supernets.elastic.names import Layout, layout_of
from lutra.supernets.execution import run_graph
from lutra.supernets.subnet import Subnet, initialise, layer_of

_NORM_MOMENTUM = 0.1
Slots = list[tuple[int, OpConfig]]
_Module = TypeVar("_Module", bound=nn.Module)


class Supernet(nn.Module):
    """All networks of a space: ``supernet(images, architecture)`` gives (N, classes).

    Without an architecture it is the largest one. Images are (N, C, H, W) of any size: an
    architecture's resolution is what it is meant for. Parameters and names are those of OFA's
    code; ``dropout`` acts on what the classifier is given, in training. With ``recompute`` training
    keeps no feature maps within ops, but computes them again: about half more time for
    three fifths of the memory (docs/compress.md).

    Raises `UsageError` for a space that has no supernet.
    """

    def __init__(
        self, space: str | SearchSpace, *, dropout: float = 0.0, recompute: bool = False
    ) -> None:
        super().__init__()
        self.space = get_space(space)
        self.dropout = dropout
        self.recompute = recompute
        layout = layout_of(self.space)
        self._largest = self.space.decode(self.space.choice_counts - 1)
        self._norm_epsilon = layout.norm_epsilon
        self._layers = {
            (slot, local_name(node)): self._register(layout, slot, op, node)
            for slot, op in self.slots(self._largest)
            for node in op.graph.nodes
            if node.has_weights
        }
        initialise(self)

    def _register(self, layout: Layout, slot: int, op: OpConfig, node: Node) -> ElasticLayer:
        """Make the modules of a node of the largest network, under their names."""
        names = layout.names(slot, local_name(node))
        shape = op.graph.weight_shape(node)
        transforms = None
        if names.transforms is not None:
            transforms = self._put(names.transforms, Transforms(node.kernel))
        norm = None
        if node.bias == "batchnorm":
            assert names.norm is not None
            norm = nn.BatchNorm2d(shape[0], eps=layout.norm_epsilon, momentum=_NORM_MOMENTUM)
            self._put(names.norm, norm)
        layer = self._put(names.layer, layer_of(node, shape))
        return ElasticLayer(layer, norm, transforms)

    def _put(self, path: str, module: _Module) -> _Module:
        *parents, name = path.split(".")
        holder: nn.Module = self
        for parent in parents:
            if parent not in holder._modules:
                holder.add_module(parent, nn.Module())
            holder = holder.get_submodule(parent)
        holder.add_module(name, module)
        return module

    def largest(self) -> Architecture:
        """The architecture of all weights, at the highest resolution."""
        return self._largest

    def smallest(self) -> Architecture:
        """The first choice of every gene."""
        return self.space.decode(np.zeros_like(self.space.choice_counts))

    def slots(self, architecture: Architecture) -> Slots:
        """The ops of an architecture, each with its position in the largest network.

        Raises `ResultError` and `UsageError` for an architecture that is not the space's.
        """
        indices = self.space.op_indices(self.space.encode(architecture)[None])[0]
        return [(slot, self.space.ops[op]) for slot, op in enumerate(indices) if op >= 0]

    def forward(self, images: Tensor, architecture: Architecture | None = None) -> Tensor:
        features = images
        recompute = self.recompute and torch.is_grad_enabled()
        for slot, op in self.slots(architecture or self._largest):
            if recompute:
                features = checkpoint(
                    self._run, slot, op, features, use_reentrant=False, context_fn=_contexts
                )
            else:
                features = self._run(slot, op, features)
        return features

    def _run(self, slot: int, op: OpConfig, features: Tensor) -> Tensor:
        def weighted(node: Node, inputs: Tensor) -> Tensor:
            if node.op == "linear":
                inputs = functional.dropout(inputs, self.dropout, self.training)
            layer = self._layers[slot, local_name(node)]
            return layer.run(node, op.graph.weight_shape(node), inputs)

        return run_graph(op.graph, features, weighted)

    def layers(self) -> Iterator[tuple[int, str, ElasticLayer]]:
        """Every weighted node of the largest network: its slot, its name there, its weights."""
        for (slot, name), layer in self._layers.items():
            yield slot, name, layer

    @torch.no_grad()
    def subnet(self, architecture: Architecture | None = None) -> Subnet:
        """A copy of a network on its own, equal in output; the largest one by default."""
        architecture = architecture or self._largest
        subnet = Subnet(
            self.space.graph(architecture), norm_epsilon=self._norm_epsilon, dropout=self.dropout
        )
        for position, (slot, op) in enumerate(self.slots(architecture)):
            for node in op.graph.nodes:
                if node.has_weights:
                    name = f"u{position:02d}/{local_name(node)}".replace(".", "/")
                    self._layers[slot, local_name(node)].copy_to(subnet, name)
        return subnet.train(self.training)


def _contexts() -> tuple[nullcontext[None], Recomputing]:
    """Of an op's first run, and of those that compute its feature maps again."""
    return nullcontext(), recomputing


def local_name(node: Node) -> str:
    """A node's name within its op, without the op's position in the network."""
    return node.name.partition(".")[2]
