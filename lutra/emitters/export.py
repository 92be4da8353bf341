"""Export an architecture as the model file that a runtime deploys, and that `verify` times."""

from __future__ import annotations

from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.files import write_atomically
from lutra.files.kinds import MODELS
from lutra.ops import seeded_weights
from lutra.spaces import Architecture, get_space


def write_model(
    architecture: Architecture, path: Path, emission: Emission, *, seed: int = 0
) -> dict[str, str]:
    """Write the architecture's network with seeded random weights; returns the file's metadata.

    The structure and with it the latency are those of the network; the weights are not trained,
    and the metadata says so. Raises `ResultError` when the file cannot be written, `UsageError`
    where a file is that is no model of the format.
    """
    graph = get_space(architecture.space).graph(architecture)
    metadata = {
        "architecture": architecture.key,
        "precision": emission.precision,
        "weights": f"random, seed {seed}: the structure only, not trained",
    }
    data = emission.emit(graph, seeded_weights(graph, seed), metadata)
    write_atomically(path, data, kind=MODELS[emission.format])
    return metadata
