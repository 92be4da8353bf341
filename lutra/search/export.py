"""Export what a search found as a model file."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.export import Filling, write_model
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import MODELS, TORCH_FILE, is_of_kind
from lutra.search.result import SearchResult, read_found
from lutra.spaces import Architecture, parse_architecture

_FORMATS_BY_SUFFIX = {f".{name}": name for name in FORMATS} | {".pt": "torch", ".pth": "torch"}


def export(
    network: SearchResult | Architecture | str | Path,
    path: str | Path,
    *,
    format: str | None = None,
    precision: str | None = None,
    space: str | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    data: str | Path | None = None,
    calibration_data: str | Path | None = None,
    fine_tune_epochs: int = 0,
    on_step: Callable[[int, int], None] = lambda done, expected: None,
) -> dict[str, str]:
    """Write a search's best network, or an architecture, as the model file that `verify` times.

    ``network`` may be the JSON file of either, or one network's weights (`fine_tune_network`),
    which are then its ``checkpoint``; ``space`` is the one that it must be of, and is of where its
    file names none, as OFA's configs do not. ``format`` (``onnx``, ``tflite``, ``torch``) is by
    default what the path's suffix says, else, like ``precision`` (``fp32``, ``fp16``,
    ``int8``), that of the table that was searched.

    ``checkpoint`` is a supernet's file, whose weights the network inherits, or one of the network's
    own. ``data`` is a folder of training images, on which its batch-norm statistics are
    re-estimated, after fine-tuning for ``fine_tune_epochs`` (``on_step`` is told steps done and
    expected). ``calibration_data`` is a folder of images that feature maps get their ranges of int8
    from, by default ``data``. Without a
    checkpoint the weights are random numbers of a ``seed``: structure and latency are right,
    accuracy is not.

    Returns what the file says of itself: ``path``, ``format``, ``architecture``, ``precision``,
    ``weights``, and with a checkpoint ``statistics``, ``pixels`` (how an image becomes an input),
    ``calibration`` of int8 and ``fine_tuning``. Raises `ResultError`, `ModelError` where the
    format cannot express it, `UsageError` for an unknown format, one that contradicts the suffix, a
    file that is no model of that format, or images without a use, `CheckpointError`, `DataError`
    and `TrainingError`.

    >>> export("result.json", "model.onnx")["format"]
    'onnx'
    """
    architecture, emission = _found(network, space)
    if checkpoint is None and isinstance(network, str | Path):
        checkpoint = network if is_of_kind(Path(network), TORCH_FILE) else None
    suffix = Path(path).suffix.lower()
    named = _FORMATS_BY_SUFFIX.get(suffix)
    emission = replace(
        emission,
        format=format or named or emission.format,
        precision=precision or emission.precision,
    )
    if named not in (None, emission.format):
        raise UsageError(f"{path} is to be {emission.format}, but {suffix} is {named}'s suffix")
    filled: AbstractContextManager[Filling | None] = nullcontext()
    _require_use(emission, checkpoint, data, calibration_data, fine_tune_epochs)
    if checkpoint is not None:
        from lutra.supernets.deployment.trained import Training, trained_filling

        if os.path.realpath(checkpoint) == os.path.realpath(path):
            raise UsageError(
                f"{path} holds the weights themselves: name another file for the model"
            )
        check_output(Path(path), MODELS[emission.format])
        training = Training(
            checkpoint, data, calibration_data, fine_tune_epochs, seed, output=Path(path)
        )
        filled = trained_filling(architecture, training, emission, on_step)
    with filled as filling:
        metadata = write_model(architecture, Path(path), emission, seed=seed, filling=filling)
    return {"path": str(path), "format": emission.format, **metadata}


def _require_use(
    emission: Emission,
    checkpoint: str | Path | None,
    data: str | Path | None,
    calibration_data: str | Path | None,
    fine_tune_epochs: int,
) -> None:
    """Raise `UsageError` for what would be asked in vain."""
    if fine_tune_epochs < 0:
        raise UsageError(f"{fine_tune_epochs} epochs of fine-tuning: at least 0")
    if checkpoint is None and (data, calibration_data, fine_tune_epochs) != (None, None, 0):
        raise UsageError(
            "images are for trained weights: name the supernet's file too (--checkpoint)"
        )
    if fine_tune_epochs and data is None:
        raise UsageError("fine-tuning needs training images: name their folder (--data)")
    if calibration_data is not None and emission.precision != "int8":
        raise UsageError(
            f"calibration images are for int8, and this file is {emission.precision}: leave them"
            " out, or ask for int8 (--precision int8)"
        )


def _found(
    network: SearchResult | Architecture | str | Path, space: str | None
) -> tuple[Architecture, Emission]:
    match network:
        case SearchResult():
            architecture, emission = network.best.architecture, network.emission
        case Architecture():
            architecture, emission = network, Emission()
        case _:
            return read_found(network, space)
    if space is not None:
        parse_architecture(architecture.to_json(), space)  # raises where it is of another one
    return architecture, emission
