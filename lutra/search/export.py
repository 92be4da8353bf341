"""Export what a search found as a model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.emitters.export import write_model
from lutra.search.result import SearchResult, read_found
from lutra.spaces import Architecture


def export(
    network: SearchResult | Architecture | str | Path,
    path: str | Path,
    *,
    format: str | None = None,
    precision: str | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Write a search's best network, or an architecture, as the model file that `verify` times.

    ``network`` may be the JSON file of either. ``format`` (``onnx``, ``tflite``, ``torch``) and
    ``precision`` (``fp32``, ``fp16``, ``int8``) are by default those of the table that was
    searched. The weights are random numbers of a ``seed``: structure and latency are right,
    accuracy is not. Returns what the file says of itself: ``path``, ``format``, ``architecture``,
    ``precision``, ``weights``. Raises `ResultError`, `ModelError` where the format cannot express
    it, and `UsageError` for an unknown format.

    >>> export("result.json", "model.onnx")["format"]
    'onnx'
    """
    architecture, emission = _found(network)
    emission = replace(
        emission, format=format or emission.format, precision=precision or emission.precision
    )
    metadata = write_model(architecture, Path(path), emission, seed=seed)
    return {"path": str(path), "format": emission.format, **metadata}


def _found(network: SearchResult | Architecture | str | Path) -> tuple[Architecture, Emission]:
    match network:
        case SearchResult():
            return network.best.architecture, network.emission
        case Architecture():
            return network, Emission()
    return read_found(network)
