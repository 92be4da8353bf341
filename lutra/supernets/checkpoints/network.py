"""One network's weights in a file: what training a subnet on its own ends with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lutra.emitters.quantization import Range
from lutra.errors import CheckpointError
from lutra.files import kinds
from lutra.ops import Graph
from lutra.ops.graph_document import graph_document
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import SearchSpace
from lutra.spaces.graph_widths import GraphWidthSpace, narrower_forms
from lutra.spaces.narrower import NarrowerForms
from lutra.spaces.registry import get_space
from lutra.spaces.widths import WidthSpace
from lutra.supernets.checkpoints.checkpoint import (
    NETWORK,
    VERSION,
    Checkpoint,
    load_supernet,
    load_weights,
    read_checkpoint,
    write_weights,
)
from lutra.supernets.elastic.names import norm_epsilon_of
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.pruning.removal import Criterion, NarrowerNetworks
from lutra.supernets.subnet import Subnet

_NAMED_LETTERS = 20  # of a format in a file
_LARGEST_EPSILON = 1.0  # added to a variance; usual are 1e-5 and 1e-3


@dataclass(frozen=True)
class TrainedRanges:
    """Ranges of a network's feature maps that were trained in the int8 of a ``format``."""

    format: str
    maps: Mapping[str, Range]


def save_network(
    subnet: Subnet,
    architecture: Architecture,
    path: Path,
    about: Mapping[str, Any],
    ranges: TrainedRanges | None = None,
) -> None:
    """Write a network's weights; ``about`` (plain data) says how they came to be.

    ``ranges`` are those of its feature maps where they were trained with the weights. Raises
    `CheckpointError`, and `UsageError` where a file that is no network's would be lost; an older
    one of that name is there until the new one is whole.
    """
    document = {NETWORK: VERSION, "architecture": architecture.to_json(), "about": dict(about)}
    space = get_space(architecture.space)
    if isinstance(space, GraphWidthSpace):
        document["graph"] = graph_document(space.full_graph)
        document["norm_epsilons"] = {name: float(norm.eps) for name, norm in _norms(subnet).items()}
    if ranges is not None:
        maps = {name: list(values) for name, values in ranges.maps.items()}
        document["ranges"] = {"format": ranges.format, "maps": maps}
    write_weights(subnet, {**document, "space": architecture.space}, path, kind=kinds.NETWORK)


def load_network(
    checkpoint: str | Path | Checkpoint,
    architecture: Architecture | None = None,
    criterion: Criterion = "independent",
) -> tuple[Architecture, Subnet]:
    """A network with the weights of a file, ready to evaluate: its own, or a supernet's.

    ``architecture`` is needed for a supernet's file, and must be that of a network's, or a narrower
    form of one whose weights the file has: channels are then removed by the ``criterion``. A
    supernet's batch-norm statistics are shared by all its subnets, and those of what was narrowed
    are from before: `tune_statistics` makes a network's own.
    Raises `CheckpointError` for a file that is not whole or another network's.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint)
    own = checkpoint.architecture
    architecture = own if architecture is None else architecture
    if architecture is None:
        raise CheckpointError(
            f"{checkpoint.source} is a supernet's: name one of its networks, a search's result"
            " for example"
        )
    if architecture == own:
        return own, _own_weights(checkpoint, own)
    return architecture, load_subnets(checkpoint, architecture.space, criterion).subnet(
        architecture
    )


def load_subnets(
    checkpoint: str | Path | Checkpoint,
    space: str | SearchSpace | None = None,
    criterion: Criterion = "independent",
) -> Supernet | NarrowerNetworks:
    """What gives each network of a space its weights, by ``subnet``: a supernet, or pruning.

    ``space`` is by default the file's: its supernet's, or the narrower forms of its one network.
    Where it is those of a network, the file may be of the network or of a supernet that has it.
    Raises `CheckpointError` and `UsageError` as `load_supernet` and `load_network` do.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint)
    own = checkpoint.architecture
    if space is not None:
        space = get_space(space)
    elif own is not None:
        space = narrower_forms(own)
    if isinstance(space, GraphWidthSpace) and own is not None:
        if narrower_forms(own).name == space.name:
            return NarrowerNetworks(_own_weights(checkpoint, own), space, criterion)
    elif isinstance(space, WidthSpace):
        _, base = load_network(checkpoint, space.base, criterion)
        return NarrowerNetworks(base, space, criterion)
    if own is not None:
        raise CheckpointError(
            f"{checkpoint.source} holds another network than the one that was named"
        )
    return load_supernet(checkpoint, space)


def network_space(path: str | Path) -> NarrowerForms:
    """The space of the narrower forms of the network in a file, known by its name from now on.

    Tables and results of a module's (`save_module`) can be read once its file was. Raises
    `CheckpointError` for what is no file of one network's weights.

    >>> network_space("small.pth").resolutions
    (20,)
    """
    return narrower_forms(network_in(path))


def network_in(path: str | Path) -> Architecture:
    """Which network a network file is of; raises `CheckpointError` for any other file."""
    own = read_checkpoint(path).architecture
    if own is None:
        raise CheckpointError(
            f"{path} is no file of one network's weights (`lutra fine-tune` writes such): name a"
            " search's result, or an architecture's JSON file"
        )
    return own


def trained_ranges(checkpoint: Checkpoint, graph: Graph) -> TrainedRanges | None:
    """The ranges that a network's file holds; None where they were not trained.

    Raises `CheckpointError` unless each feature map of the ``graph`` has one, of finite numbers.
    """
    match checkpoint.ranges:
        case None:
            return None
        case {"format": str(format), "maps": {**maps}} if maps.keys() == graph.shapes.keys():
            ranges = {name: _range(name, maps[name], checkpoint) for name in graph.shapes}
            return TrainedRanges(format[:_NAMED_LETTERS], ranges)
    raise CheckpointError(
        f"{checkpoint.source}: its ranges of int8 are not those of this network's feature maps"
    )


def _range(name: str, values: object, checkpoint: Checkpoint) -> Range:
    match values:
        case [float(low), float(high)] if low <= high and math.isfinite(high - low):
            return low, high
    raise CheckpointError(
        f"{checkpoint.source}: the range of {name} in int8 is not two finite numbers in order"
    )


def _own_weights(checkpoint: Checkpoint, architecture: Architecture) -> Subnet:
    space = get_space(architecture.space)
    with torch.device("meta"):
        graph = space.graph(architecture)
        if isinstance(space, GraphWidthSpace):
            subnet = Subnet(graph)
            _set_epsilons(subnet, checkpoint)
        else:
            subnet = Subnet(graph, norm_epsilon=norm_epsilon_of(space))
    load_weights(subnet, checkpoint, f"network of {space.name}")
    return subnet.eval()


def _norms(subnet: Subnet) -> dict[str, nn.BatchNorm2d]:
    """The batch normalisations by the names of their nodes."""
    nodes = (node for node in subnet.graph.nodes if node.bias == "batchnorm")
    return {node.name: subnet.norm(node) for node in nodes}


def _set_epsilons(subnet: Subnet, checkpoint: Checkpoint) -> None:
    norms, given = _norms(subnet), checkpoint.norm_epsilons
    if not isinstance(given, Mapping) or given.keys() != norms.keys():
        raise CheckpointError(f"{checkpoint.source} has no epsilon for each batch normalisation")
    for name, norm in norms.items():
        value = given[name]
        if not isinstance(value, float) or not 0.0 <= value <= _LARGEST_EPSILON:
            raise CheckpointError(f"{checkpoint.source}: the epsilon of {name} is no small number")
        norm.eps = value
