"""Export an architecture as a model file."""

from __future__ import annotations

from pathlib import Path

from lutra.errors import UsageError
from lutra.ops import seeded_weights
from lutra.search.networks import network_key
from lutra.search.result import write_atomically
from lutra.search.spaces import Architecture, get_space

FORMATS = ("onnx",)


def export(
    architecture: Architecture, path: Path, *, format_name: str = "onnx", seed: int = 0
) -> dict[str, str]:
    """Write the architecture's network with seeded random weights; returns the file's metadata.

    The structure and with it the latency are those of the network; the weights are not trained,
    and the metadata says so. Raises `UsageError` for an unknown format, `ResultError` when the
    file cannot be written.
    """
    from lutra.profiler.emitters.onnx import emit_onnx

    if format_name not in FORMATS:
        raise UsageError(f"unknown format '{format_name}'; known: {', '.join(FORMATS)}")
    graph = get_space(architecture.space).graph(architecture)
    metadata = {
        "architecture": network_key(architecture),
        "weights": f"random, seed {seed}: the structure only, not trained",
    }
    write_atomically(path, emit_onnx(graph, seeded_weights(graph, seed), metadata=metadata))
    return metadata
