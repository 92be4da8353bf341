"""The narrower forms of any graph, a user's own module for example, op by op.

Unlike a network of a space it has no blocks that are measured whole: its ops are its convolutions
with what follows them at once, linear layers and pools. What adds and scales costs nothing of its
own; `calibrate` tells what whole networks have beside their ops. A residual block may be left out
where its body has channels of its own to lose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from lutra.errors import UsageError
from lutra.ops import Conv, Graph, Linear, OpConfig, Pool
from lutra.ops.graph import Activation, Node
from lutra.ops.graph_document import parse_graph
from lutra.ops.narrowing import channel_groups, narrowed
from lutra.ops.residual import ResidualBlock, residual_blocks, without
from lutra.spaces.architecture import Architecture
from lutra.spaces.narrower import Group, NarrowerForms, Place, Slot
from lutra.spaces.registry import get_space, register_unlisted, remember_space
from lutra.spaces.widths import WidthSpace

_PREFIX = "module-"
_DIGITS = 12


class GraphWidthSpace(NarrowerForms):
    """The narrower forms of ``full_graph``; equal graphs have one name.

    Raises `UsageError` for a graph without a layer that can be narrowed.
    """

    def __init__(self, full_graph: Graph) -> None:
        self.full_graph = full_graph
        maps = channel_groups(full_graph)
        if not any(group is not None for group in maps.values()):
            raise UsageError("the module has no layer whose channels could be fewer")
        channels = {
            group: full_graph.shapes[name].channels
            for name, group in maps.items()
            if group is not None
        }
        self._spare = _spare_blocks(full_graph, maps)
        block_of = {name: place for place, (block, _) in self._spare.items() for name in block.body}
        slots = [
            Slot(op, (maps[node.inputs[0]], maps[node.name]), block_of.get(node.name))
            for node in full_graph.nodes
            if (op := _op_of(full_graph, node)) is not None
        ]
        within = {other: place for place, (_, others) in self._spare.items() for other in others}
        groups = [
            Group(channels[place], spare=place in self._spare, block=within.get(place))
            for place in range(len(channels))
        ]
        super().__init__(_name_of(full_graph), full_graph.input_shape.height, groups, slots)

    def narrowed(self, slot: Slot, channels: Sequence[int]) -> OpConfig:
        op = slot.op
        inputs, outputs = channels
        shape = op.input_shape._replace(channels=inputs or op.input_shape.channels)
        if isinstance(op, Linear):
            return replace(op, input_shape=shape, out_features=outputs or op.out_features)
        if not isinstance(op, Conv):
            return replace(op, input_shape=shape)
        made = outputs or op.out_channels
        depthwise = 1 < op.groups == op.out_channels
        groups = made if depthwise else op.groups
        return replace(op, input_shape=shape, out_channels=made, groups=groups)

    def graph(self, architecture: Architecture) -> Graph:
        channels = dict(enumerate(self.channels_of(architecture)))
        left_out = [block for place, (block, _) in self._spare.items() if not channels[place]]
        return without(narrowed(self.full_graph, channels), left_out)


class _Spare(NamedTuple):
    """A block that may be left out, and the groups of its body beside the first, which tells."""

    block: ResidualBlock
    others: frozenset[int]


def _spare_blocks(graph: Graph, maps: Mapping[str, Place]) -> dict[int, _Spare]:
    """By the first group that is all within its body; of blocks in one another the innermost."""
    found: dict[int, _Spare] = {}
    for block in residual_blocks(graph):
        if any(other.block.add in block.body for other in found.values()):
            continue
        outside = {group for name, group in maps.items() if name not in block.body}
        own = {group for name in block.body if (group := maps[name]) is not None} - outside
        if own:
            found[min(own)] = _Spare(block, frozenset(own - {min(own)}))
    return found


def _op_of(graph: Graph, node: Node) -> OpConfig | None:
    """The measured op of a node; None for those that have none of their own."""
    shape = graph.shapes[node.inputs[0]]
    channels = graph.shapes[node.name].channels
    match node.op:
        case "conv2d" | "depthwise":
            return Conv(
                shape,
                channels,
                kernel=node.kernel,
                stride=node.stride,
                groups=node.groups,
                activation=_following(graph, node),
                bias=node.bias,
            )
        case "linear":
            return Linear(shape, channels)
        case "global_pool":
            return Pool(shape, "global")
        case "max_pool":
            return Pool(shape, "max", node.kernel, node.stride)
    return None


def _following(graph: Graph, node: Node) -> Activation:
    """The activation that alone reads a node, which runtimes fuse with it."""
    readers = [other for other in graph.nodes if node.name in other.inputs]
    if len(readers) == 1 and readers[0].op == "activation":
        return readers[0].function
    return "none"


def _name_of(graph: Graph) -> str:
    told = repr([str(graph.input_shape), graph.output, *(asdict(node) for node in graph.nodes)])
    shapes = repr(sorted((name, str(shape)) for name, shape in graph.shapes.items()))
    return f"{_PREFIX}{hashlib.sha256((told + shapes).encode()).hexdigest()[:_DIGITS]}"


def narrower_forms(network: Architecture) -> NarrowerForms:
    """The space of a network's narrower forms, known by its name from now on.

    Raises `UsageError` for a network that has none.
    """
    space = get_space(network.space)
    if not isinstance(space, GraphWidthSpace):
        return WidthSpace(network)
    if network != space.full:
        space = GraphWidthSpace(space.graph(network))
        remember_space(space)
    return space


def graph_space(document: object) -> str:
    """Make the space of the graph in a file's document known; returns its name.

    Raises `UsageError` for what is no graph, or has no narrower forms.
    """
    try:
        graph = parse_graph(document)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if graph.input_shape.height != graph.input_shape.width:
        raise UsageError("its images are not square")
    space = GraphWidthSpace(graph)
    remember_space(space)
    return space.name


register_unlisted(
    _PREFIX,
    "is that of a module's narrower forms, and only the module's network file says what they are:"
    " name it (--checkpoint FILE; in Python lutra.network_space(FILE)), the module.pth that"
    " `lutra.prune_module` wrote for example",
)
