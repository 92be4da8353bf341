"""Ordering channels within blocks by importance, so that a prefix keeps the best ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lutra.spaces.architecture import Architecture
from lutra.supernets.elastic.layers import ElasticLayer
from lutra.supernets.elastic.supernet import Supernet, local_name


class _Border(NamedTuple):
    """Channels within a block: the nodes whose outputs they are, and those that read them.

    The last reader's weights tell how important a channel is.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]


# By a node that only this kind of elastic block has.
_BORDERS = {
    "depthwise": (
        _Border(("expand", "depthwise", "se.expand"), ("se.reduce", "project")),
        _Border(("se.reduce",), ("se.expand",)),
    ),
    "reduce": (_Border(("conv",), ("expand",)), _Border(("reduce",), ("conv",))),
}


@torch.no_grad()
def sort_channels(supernet: Supernet, kept: Sequence[float] = ()) -> None:
    """Sort each elastic block's inner channels by the L1 norm of the weights that read them.

    What the largest network computes stays the same. ``kept`` are the expansions that were trained
    already: a channel that is in one of their prefixes stays in it. (Cai et al., 2020, section
    3.3; within groups as in the authors' code.)
    """
    blocks: dict[int, dict[str, ElasticLayer]] = defaultdict(dict)
    for slot, name, layer in supernet.layers():
        blocks[slot][name] = layer
    widths = [_widths(supernet, expansion) for expansion in sorted(kept)]
    for slot, nodes in blocks.items():
        if "expand" in nodes:  # elastic
            kind = next(node for node in _BORDERS if node in nodes)
            for border in _BORDERS[kind]:
                if border.writers[0] in nodes:
                    prefixes = [width[slot, border.writers[0]] for width in widths]
                    _sort(nodes, border, prefixes)


def _widths(supernet: Supernet, expansion: float) -> dict[tuple[int, str], int]:
    """The output channels of each node, by slot and name, where all blocks have an expansion."""
    largest = supernet.largest()
    lists = {name: tuple(values) for name, values in largest.lists}
    lists["e"] = (expansion,) * len(lists["e"])
    return {
        (slot, local_name(node)): op.graph.weight_shape(node)[0]
        for slot, op in supernet.slots(Architecture(largest.space, largest.r, lists))
        for node in op.graph.nodes
        if node.has_weights
    }


def _sort(nodes: dict[str, ElasticLayer], border: _Border, prefixes: Sequence[int]) -> None:
    importance = nodes[border.readers[-1]].layer.weight.abs().sum((0, 2, 3))
    for prefix in prefixes:
        importance[:prefix] += importance.sum() + 1.0
    order = torch.argsort(importance, descending=True, stable=True)
    for name in border.writers:
        if name in nodes:
            _permute_outputs(nodes[name], order)
    for name in border.readers:
        if name in nodes:
            weight = nodes[name].layer.weight
            weight.copy_(weight[:, order])


def _permute_outputs(node: ElasticLayer, order: Tensor) -> None:
    arrays: list[Tensor | None] = [node.layer.weight, node.layer.bias]
    if (norm := node.norm) is not None:
        arrays += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    for array in arrays:
        if array is not None:
            array.copy_(array[order])
