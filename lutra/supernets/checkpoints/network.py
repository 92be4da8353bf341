"""One network's weights in a file: what training a subnet on its own ends with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lutra.emitters.quantization import Range
from lutra.errors import CheckpointError
from lutra.ops import Graph
from lutra.spaces.architecture import Architecture
from lutra.spaces.registry import get_space
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
from lutra.supernets.subnet import Subnet

_NAMED_LETTERS = 20  # of a format in a file


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
    `CheckpointError`; an older file of that name is there until the new one is whole.
    """
    document = {NETWORK: VERSION, "architecture": architecture.to_json(), "about": dict(about)}
    if ranges is not None:
        maps = {name: list(values) for name, values in ranges.maps.items()}
        document["ranges"] = {"format": ranges.format, "maps": maps}
    write_weights(subnet, {**document, "space": architecture.space}, path)


def load_network(
    checkpoint: str | Path | Checkpoint, architecture: Architecture | None = None
) -> tuple[Architecture, Subnet]:
    """A network with the weights of a file, ready to evaluate: its own, or a supernet's.

    ``architecture`` is needed for a supernet's file, and must be that of a network's. A supernet's
    batch-norm statistics are shared by all its subnets: `tune_statistics` makes a network's own.
    Raises `CheckpointError` for a file that is not whole or another network's.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint)
    own = checkpoint.architecture
    if own is None:
        if architecture is None:
            raise CheckpointError(
                f"{checkpoint.source} is a supernet's: name one of its networks, a search's result"
                " for example"
            )
        supernet = load_supernet(checkpoint, architecture.space)
        return architecture, supernet.subnet(architecture)
    if architecture not in (None, own):
        raise CheckpointError(
            f"{checkpoint.source} holds another network than the one that was named"
        )
    return own, _own_weights(checkpoint, own)


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
        subnet = Subnet(graph, norm_epsilon=norm_epsilon_of(space))
    load_weights(subnet, checkpoint, f"network of {space.name}")
    return subnet.eval()
