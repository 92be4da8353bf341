"""A checkpoint's weights for one architecture, ready for an emitter, with where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.emitters.emission import Emission
from lutra.emitters.export import Filling
from lutra.errors import DataError
from lutra.ops import Shape
from lutra.spaces import Architecture, get_space
from lutra.supernets.checkpoints.checkpoint import Checkpoint, read_checkpoint
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.data.base import (
    AUGMENTATIONS,
    Augmentation,
    ImageSet,
    normalisation,
    shuffled,
)
from lutra.supernets.data.loading import load_images, load_unlabelled
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.evaluation import OnStep, tune_statistics
from lutra.supernets.pruning.removal import Criterion
from lutra.supernets.subnet import Subnet

CALIBRATION_IMAGES = 256
_OWN = "the network's own"
_BEFORE = "those from before channels were removed: accuracy will be poor"
_SHARED = (
    "the supernet's own, which all its subnets share: accuracy will be poor except for the largest"
    " net's"
)


@dataclass(frozen=True)
class Training:
    """Where weights come from and what is done to them before they are deployed.

    ``checkpoint`` is a supernet's file, or one network's. ``data`` is a folder of training images,
    for batch-norm statistics and ``fine_tune_epochs``; where the file's network is narrowed,
    channels go by ``criterion``. ``calibration_data`` is one for the ranges of 8 bits, by default
    the same.
    """

    checkpoint: str | Path
    data: str | Path | None = None
    calibration_data: str | Path | None = None
    fine_tune_epochs: int = 0
    seed: int = 0
    criterion: Criterion = "independent"


def trained_filling(
    architecture: Architecture,
    training: Training,
    emission: Emission,
    on_step: OnStep = lambda done, expected: None,
) -> Filling:
    """The architecture's weights from a checkpoint, batch normalisations folded in.

    Raises what `trained_network` does.
    """
    start = _start(architecture, training)
    shape = start.subnet.graph.input_shape
    calibration, calibrated_on = None, ""
    if emission.precision == "int8":
        calibration, calibrated_on = _calibration(shape, start.images, training.calibration_data)
    notes = _adapted(start, architecture, training, on_step)
    notes["pixels"] = _pixels_text(shape.channels)
    if calibrated_on:
        notes["calibration"] = calibrated_on
    return Filling(start.subnet.weights(), notes, calibration)


def trained_network(
    architecture: Architecture,
    training: Training,
    on_step: OnStep = lambda done, expected: None,
) -> tuple[Subnet, dict[str, str]]:
    """The architecture with a checkpoint's weights, adapted as asked; what was done, in words.

    Raises `CheckpointError` for a file of neither the architecture nor a supernet of its space, nor
    of a network that it is a narrower form of, `DataError` for images that cannot be read or do not
    fit it, `TrainingError` from fine-tuning.
    """
    start = _start(architecture, training)
    return start.subnet, _adapted(start, architecture, training, on_step)


class _Start(NamedTuple):
    """A network with the weights of a file, and training images, if any."""

    checkpoint: Checkpoint
    subnet: Subnet
    images: ImageSet | None


def _start(architecture: Architecture, training: Training) -> _Start:
    checkpoint = read_checkpoint(training.checkpoint)
    images = None
    if training.data is not None:
        images = load_images(training.data, "train", augmentation_of(checkpoint))
        images.require_fit(get_space(architecture.space))
    _, subnet = load_network(checkpoint, architecture, training.criterion)
    return _Start(checkpoint, subnet, images)


def augmentation_of(checkpoint: Checkpoint) -> Augmentation:
    """As the supernet was trained, for fine-tuning; where its file does not say, the default."""
    named = checkpoint.about.get("augmentation")
    return next((known for known in AUGMENTATIONS if known == named), "full")


def _adapted(
    start: _Start, architecture: Architecture, training: Training, on_step: OnStep
) -> dict[str, str]:
    """Fine-tune and re-estimate as asked; what was done, for the metadata."""
    checkpoint, subnet, images = start
    notes = {"weights": f"trained: {Path(checkpoint.source).name}, SHA-256 {checkpoint.digest}"}
    if images is None:
        statistics = _SHARED
        if checkpoint.architecture is not None:
            statistics = _OWN if checkpoint.architecture == architecture else _BEFORE
        return {**notes, "statistics": statistics}
    if training.fine_tune_epochs:
        epochs = training.fine_tune_epochs
        fine_tune(subnet, images, architecture.r, epochs, seed=training.seed, on_step=on_step)
        plural = "s" if epochs > 1 else ""
        notes["fine_tuning"] = f"{epochs} epoch{plural} on {images.source}, seed {training.seed}"
    count = tune_statistics(subnet, images, architecture.r)
    return {**notes, "statistics": f"of {count} training images of {images.source}"}


def _calibration(
    shape: Shape, images: ImageSet | None, folder: str | Path | None
) -> tuple[npt.NDArray[np.float32] | None, str]:
    """Images (N, C, H, W) for the ranges of 8 bits, and which: of a folder, or training images."""
    if folder is not None:
        images = load_unlabelled(folder, shape.channels)
        if images.channels != shape.channels:
            raise DataError(
                f"{folder}: its images have {images.channels} channels; the network takes"
                f" {shape.channels}"
            )
    if images is None:
        return None, "random inputs: ranges may be far from those of images"
    chosen = shuffled(len(images))[:CALIBRATION_IMAGES]
    features, _ = images.batch(chosen, shape.height)
    return features.numpy(), f"{len(chosen)} images of {images.source}"


def _pixels_text(channels: int) -> str:
    """What a user of the file must do to an image."""
    mean, deviation = (
        " ".join(f"{value:g}" for value in values.flatten().tolist())
        for values in normalisation(channels)
    )
    order = "RGB" if channels == 3 else "grey"
    return f"{order}; (value / 255 - mean) / deviation, mean {mean}, deviation {deviation}"
