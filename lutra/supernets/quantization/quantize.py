"""A trained network as one int8 file, its ranges by rule or trained."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.emitters.export import Filling, write_model
from lutra.errors import CheckpointError, UsageError
from lutra.files import check_output
from lutra.files.kinds import MODELS, NETWORK
from lutra.spaces import Architecture
from lutra.supernets.checkpoints.network import TrainedRanges, save_network
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.deployment.trained import Prepared, Training, filled, prepared
from lutra.supernets.evaluation import OnStep
from lutra.supernets.quantization.observers import observer_of
from lutra.supernets.quantization.rules import PERCENTILE, RULES, RangeRule
from lutra.supernets.quantization.training import LEARNING_RATE, train_quantised
from lutra.supernets.training.state import hold_output

TRAINED = "trained"
RANGES = (*RULES, TRAINED)
FORMATS = ("tflite", "onnx")


def quantize(
    path: str | Path,
    checkpoint: str | Path,
    data: str | Path,
    architecture: Architecture | None = None,
    *,
    ranges: str = "max",
    percentile: float | None = None,
    epochs: int = 0,
    observer: str = "moving",
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    network: str | Path | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> dict[str, str]:
    """Write a trained network as an int8 file, .tflite or .onnx; returns the file's metadata.

    ``checkpoint`` is a network's file, or a supernet's, of which ``architecture`` is one. ``data``
    is a folder of training images: for a supernet's network batch-norm statistics are re-estimated
    on them, and 256 of them show what feature maps hold. ``ranges`` says how their ranges come of
    it: ``max`` takes in all, ``percentile`` so many per cent of the values (99.99), ``kl`` what
    loses least information; ``trained`` trains weights and ranges for ``epochs`` in simulated int8
    (`SimulatedInt8`), where ``observer`` (``moving``, ``window-mean``, ``window-max``) says how
    ranges follow the batches, or takes those that the checkpoint holds. ``network`` is where to
    keep what was trained, for `export` and `quantize`; ``on_step`` is told steps done and expected.
    Stopped, the same call goes on (`fine_tune_network`).

    Raises `UsageError` for what does not go together, `CheckpointError`, `DataError`,
    `TrainingError`, and `ResultError` where a file cannot be written.

    >>> from lutra.supernets.checkpoints.shipped import shipped_checkpoint
    >>> space = get_space("ofa-mbv3-fashion")
    >>> smallest = space.decode(space.choice_counts * 0)
    >>> weights = shipped_checkpoint(space.name)
    >>> quantize("m.tflite", weights, "images", smallest, ranges="kl")["ranges"]
    'kl'
    """
    emission = Emission(format_of_output(path), "int8")
    rule = _rule(ranges, percentile)
    observer_of(observer)
    _require_use(ranges, epochs, learning_rate, network)
    check_output(Path(path), MODELS[emission.format])
    if network is not None:
        check_output(Path(network), NETWORK, CheckpointError)
    training = Training(checkpoint, data, seed=seed, ranges=rule)
    with prepared(architecture, training) as found:
        if ranges == TRAINED and not epochs and found.ranges is None:
            raise UsageError(
                f"{checkpoint} holds no trained ranges: train them (--epochs 1), or name a rule"
            )
        filling = filled(found, training, emission)
    if not epochs:
        return write_model(found.architecture, Path(path), emission, filling=filling)
    assert filling.ranges is not None
    assert found.images is not None
    settings = {
        "checkpoint": found.checkpoint.digest,
        "network": found.architecture.key,
        "format": emission.format,
        "data": str(data),
        "epochs": epochs,
        "observer": observer,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    kept = nullcontext() if network is None else hold_output(Path(network))
    with kept, Resumption(path, settings) as resumption:
        trained = train_quantised(
            found.network,
            emission.format,
            filling.ranges,
            found.images,
            found.architecture.r,
            epochs,
            observer=observer,
            learning_rate=learning_rate,
            seed=seed,
            resumption=resumption,
            on_step=on_step,
        )
        plural = "s" if epochs > 1 else ""
        notes = {
            **filling.notes,
            "ranges": f"trained in {emission.format}'s int8, {observer}: {epochs} epoch{plural} on"
            f" {found.images.source}, learning rate {learning_rate:g}, seed {seed}",
        }
        filling = Filling(found.network.weights(), notes, trained)
        if network is not None:
            _keep(found, filling, emission, Path(network))
        return write_model(found.architecture, Path(path), emission, filling=filling)


def format_of_output(path: str | Path) -> str:
    """The format of an int8 file by its name; raises `UsageError`."""
    suffix = Path(path).suffix.lower()[1:]
    if suffix not in FORMATS:
        known = " or ".join(f".{name}" for name in FORMATS)
        raise UsageError(f"{path}: an int8 file ends in {known}")
    return suffix


def _rule(ranges: str, percentile: float | None) -> RangeRule | None:
    """The rule that is named; None for trained ranges. Raises `UsageError`."""
    if ranges not in RANGES:
        raise UsageError(f"no ranges are called '{ranges}'; known: {', '.join(RANGES)}")
    if percentile is not None and ranges != "percentile":
        raise UsageError(f"a percentile is for the rule 'percentile', not for '{ranges}'")
    if ranges == TRAINED:
        return None
    return RangeRule(ranges, PERCENTILE if percentile is None else percentile)


def _require_use(
    ranges: str, epochs: int, learning_rate: float, network: str | Path | None
) -> None:
    """Raise `UsageError` for what would be asked in vain."""
    if epochs < 0:
        raise UsageError(f"{epochs} epochs: at least 0")
    if epochs and ranges != TRAINED:
        raise UsageError(f"epochs train ranges, and '{ranges}' is a rule: ask for '{TRAINED}'")
    if not 0 < learning_rate < math.inf:
        raise UsageError(f"a learning rate of {learning_rate:g}: above 0, such as {LEARNING_RATE}")
    if network is not None and not epochs:
        raise UsageError("a network's file is for what was trained: give it epochs (--epochs 1)")


def _keep(found: Prepared, filling: Filling, emission: Emission, path: Path) -> None:
    assert found.images is not None
    assert filling.ranges is not None
    about = {**filling.notes, "augmentation": found.images.augmentation}
    ranges = TrainedRanges(emission.format, filling.ranges)
    save_network(found.network, found.architecture, path, about, ranges)
