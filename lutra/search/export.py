"""Export what a search found as a model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.export import write_model
from lutra.errors import UsageError
from lutra.search.result import SearchResult, read_found
from lutra.spaces import Architecture

_FORMATS_BY_SUFFIX = {f".{name}": name for name in FORMATS} | {".pt": "torch", ".pth": "torch"}


def export(
    network: SearchResult | Architecture | str | Path,
    path: str | Path,
    *,
    format: str | None = None,
    precision: str | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Write a search's best network, or an architecture, as the model file that `verify` times.

    ``network`` may be the JSON file of either. ``format`` (``onnx``, ``tflite``, ``torch``) is by
    default what the path's suffix says, else, like ``precision`` (``fp32``, ``fp16``, ``int8``),
    that of the table that was searched. The weights are random numbers of a ``seed``: structure and
    latency are right, accuracy is not. Returns what the file says of itself: ``path``, ``format``,
    ``architecture``, ``precision``, ``weights``. Raises `ResultError`, `ModelError` where the
    format cannot express it, and `UsageError` for an unknown format, one that contradicts the
    suffix, or a file that is no model of that format.

    >>> export("result.json", "model.onnx")["format"]
    'onnx'
    """
    architecture, emission = _found(network)
    suffix = Path(path).suffix.lower()
    named = _FORMATS_BY_SUFFIX.get(suffix)
    emission = replace(
        emission,
        format=format or named or emission.format,
        precision=precision or emission.precision,
    )
    if named not in (None, emission.format):
        raise UsageError(f"{path} is to be {emission.format}, but {suffix} is {named}'s suffix")
    metadata = write_model(architecture, Path(path), emission, seed=seed)
    return {"path": str(path), "format": emission.format, **metadata}


def _found(network: SearchResult | Architecture | str | Path) -> tuple[Architecture, Emission]:
    match network:
        case SearchResult():
            return network.best.architecture, network.emission
        case Architecture():
            return network, Emission()
    return read_found(network)
