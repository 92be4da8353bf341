"""Export an architecture as the model file that a runtime deploys, and that `verify` times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.emitters.quantization import Range
from lutra.files import write_atomically
from lutra.files.kinds import MODELS
from lutra.ops import Weights, seeded_weights
from lutra.spaces import Architecture, get_space


@dataclass(frozen=True)
class Filling:
    """What a network's structure is filled with.

    ``notes`` say in the file's metadata where the weights are from, one entry named ``weights``;
    ``ranges`` are the feature maps' in 8 bits, those of random inputs where there are none.
    """

    weights: Weights
    notes: Mapping[str, str]
    ranges: Mapping[str, Range] | None = None


def write_model(
    architecture: Architecture,
    path: Path,
    emission: Emission,
    *,
    seed: int = 0,
    filling: Filling | None = None,
) -> dict[str, str]:
    """Write the architecture's network; returns the file's metadata.

    Without a ``filling`` the weights are random numbers of a ``seed``: structure and with it the
    latency are those of the network, accuracy is not, and the metadata says so. Raises
    `ResultError` when the file cannot be written, `UsageError` where a file is that is no model of
    the format.
    """
    graph = get_space(architecture.space).graph(architecture)
    if filling is None:
        notes = {"weights": f"random, seed {seed}: the structure only, not trained"}
        filling = Filling(seeded_weights(graph, seed), notes)
    metadata = {
        "architecture": architecture.key,
        "precision": emission.precision,
        **filling.notes,
    }
    data = emission.emit(graph, filling.weights, metadata, filling.ranges)
    write_atomically(path, data, kind=MODELS[emission.format])
    return metadata
