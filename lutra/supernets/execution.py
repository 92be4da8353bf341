"""Running an op's nodes on tensors, whoever brings the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lutra.emitters.torch import WEIGHTLESS
from lutra.ops import Graph
from lutra.ops.graph import Node

Weighted = Callable[[Node, Tensor], Tensor]
"""A convolution or linear layer with its batch normalisation, if it has one."""


Observe = Callable[[str, Tensor], None]
"""Told a feature map's name and what is in it."""


def run_graph(
    graph: Graph, features: Tensor, weighted: Weighted, observe: Observe | None = None
) -> Tensor:
    """A graph's output for (N, C, H, W); a final linear layer gives (N, features).

    ``observe`` is shown what each node gives.
    """
    values = {graph.input: features}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if node.has_weights:
            values[node.name] = channels_last(weighted(node, inputs[0]))
        else:
            values[node.name] = weightless(node, *inputs)
        if observe is not None:
            observe(node.name, values[node.name])
    return values[graph.output]


def weightless(node: Node, *inputs: Tensor) -> Tensor:
    """What a node without weights makes of its inputs."""
    return WEIGHTLESS[node.op](_document(node), *inputs)


def channels_last(features: Tensor) -> Tensor:
    """The same numbers, channels innermost: on CPUs depthwise layers train three times as fast."""
    if features.dim() != 4:
        return features
    return features.contiguous(memory_format=torch.channels_last)


@cache
def _document(node: Node) -> dict[str, Any]:
    return asdict(node)
