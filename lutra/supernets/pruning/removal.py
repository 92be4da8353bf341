"""Taking channels out of a trained network: those whose filters have the smallest L1 norm.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017. Where
several layers make the same channels, as those that are added to one another and a depthwise
convolution behind its expansion, a channel's norm is the sum over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lutra.errors import CheckpointError, UsageError
from lutra.ops import Graph, Node
from lutra.spaces.architecture import Architecture
from lutra.spaces.narrower import NarrowerForms
from lutra.supernets.pruning.channels import ChannelGroups, channel_groups
from lutra.supernets.subnet import Subnet

Criterion = Literal["independent", "greedy"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)


class NarrowerNetworks(nn.Module):
    """A trained network's narrower forms, each by removing channels; ``space`` names them.

    ``criterion``: ``independent`` norms are over all weights of a filter, ``greedy`` ones over
    those that read channels that are kept, as far as that is decided before the filter's own.
    """

    def __init__(
        self, network: Subnet, space: NarrowerForms, criterion: Criterion = "independent"
    ) -> None:
        """``network`` is the space's base; raises `UsageError` for an unknown criterion."""
        super().__init__()
        if criterion not in CRITERIA:
            raise UsageError(f"unknown criterion '{criterion}'; known: {', '.join(CRITERIA)}")
        self.network = network
        self.space = space
        self.criterion = criterion

    def subnet(self, architecture: Architecture) -> Subnet:
        """A copy with the channels that such an architecture has, batch normalisations theirs.

        Raises `CheckpointError` for weights that are not finite.
        """
        graph = self.space.graph(architecture)
        names = self.space.full_names(architecture)
        return narrowed(self.network, graph, names, greedy=self.criterion == "greedy")


@torch.no_grad()
def narrowed(
    network: Subnet, graph: Graph, names: Mapping[str, str], *, greedy: bool = False
) -> Subnet:
    """A copy of a network with only the nodes of a graph, and as many channels as they have.

    ``names`` says for each of the graph's nodes which of the network's it is.
    """
    groups = channel_groups(network.graph)
    channels = {name: graph.shapes[node].channels for node, name in names.items()}
    kept = _kept(network, channels, groups, greedy=greedy)
    sources = {node.name: node for node in network.graph.nodes}
    result = Subnet(graph, dropout=network.dropout)
    for node in graph.nodes:
        if node.has_weights:
            source = sources[names[node.name]]
            outputs, inputs = kept[groups.of[source.name]], kept[groups.of[source.inputs[0]]]
            _copy(network, source, result, node, outputs, inputs)
    return result.to(next(network.parameters()).device).train(network.training)


def _kept(
    network: Subnet, channels: Mapping[str, int], groups: ChannelGroups, *, greedy: bool
) -> dict[str, Tensor]:
    """The channels that each group keeps, in their order; decided in the order of execution.

    ``channels`` is how many, for each node that is kept.
    """
    kept = {network.graph.input: torch.arange(network.graph.input_shape.channels)}
    for group, every in groups.filters.items():
        nodes = [node for node in every if node.name in channels]
        if not nodes:
            continue
        norms = torch.stack(
            [_norms(network, node, kept if greedy else {}, groups) for node in nodes]
        ).sum(0)
        if not norms.isfinite().all():
            raise CheckpointError(f"the weights of {nodes[0].name} are not finite: train it again")
        order = torch.argsort(norms, descending=True, stable=True)
        kept[group] = order[: channels[nodes[0].name]].sort().values
    return kept


def _norms(network: Subnet, node: Node, kept: dict[str, Tensor], groups: ChannelGroups) -> Tensor:
    """(channels,): the L1 norm of each filter, over the inputs that are kept where that is known.

    Double precision, so that equal filters have equal norms however many weights are summed.
    """
    weight = network.layer(node).weight.detach().cpu().double().abs()
    read = kept.get(groups.of[node.inputs[0]])
    if read is not None and node.op != "depthwise":
        weight = weight.index_select(1, _inputs(network.graph, node, read))
    return weight.flatten(1).sum(1)


def _inputs(graph: Graph, node: Node, channels: Tensor) -> Tensor:
    """Where a node's weight reads these channels: a linear layer reads every pixel of each."""
    if node.op != "linear":
        return channels
    shape = graph.shapes[node.inputs[0]]
    pixels = shape.height * shape.width
    return (channels[:, None] * pixels + torch.arange(pixels)).flatten()


def _copy(
    network: Subnet, source: Node, result: Subnet, node: Node, outputs: Tensor, inputs: Tensor
) -> None:
    """The rows and columns of a node's weights that are kept, and its normalisation's entries."""
    theirs, ours = network.layer(source), result.layer(node)
    outputs = outputs.to(theirs.weight.device)
    weight = theirs.weight.index_select(0, outputs)
    if node.op != "depthwise":
        read = _inputs(network.graph, source, inputs).to(weight.device)
        weight = weight.index_select(1, read)
    ours.weight.copy_(weight)
    if theirs.bias is not None and ours.bias is not None:
        ours.bias.copy_(theirs.bias.index_select(0, outputs))
    if node.bias == "batchnorm":
        kept = {
            name: value.index_select(0, outputs) if value.dim() else value
            for name, value in network.norm(source).state_dict().items()
        }
        result.norm(node).load_state_dict(kept)
        result.norm(node).eps = network.norm(source).eps
