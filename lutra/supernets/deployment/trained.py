"""A checkpoint's weights for one architecture, ready for an emitter, with where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lutra.emitters.emission import Emission
from lutra.emitters.export import Filling
from lutra.errors import DataError, UsageError
from lutra.spaces import Architecture, get_space
from lutra.supernets.checkpoints.checkpoint import Checkpoint, read_checkpoint
from lutra.supernets.checkpoints.network import TrainedRanges, load_network, trained_ranges
from lutra.supernets.data.base import (
    AUGMENTATIONS,
    Augmentation,
    ImageSet,
    normalisation,
    shuffled,
)
from lutra.supernets.data.loading import load_images, load_unlabelled
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.evaluation import OnStep, tune_statistics
from lutra.supernets.pruning.removal import Criterion
from lutra.supernets.quantization.rules import RangeRule
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
    the same. ``ranges`` is the rule that they come by: by default they are those that the file
    holds, else by ``max``. ``output`` is the file beside which fine-tuning keeps its state.
    """

    checkpoint: str | Path
    data: str | Path | None = None
    calibration_data: str | Path | None = None
    fine_tune_epochs: int = 0
    seed: int = 0
    criterion: Criterion = "independent"
    ranges: RangeRule | None = None
    output: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """A network ready to be deployed, and what it was made of.

    ``images`` are the training images, ``calibration`` those for ranges of 8 bits, ``notes`` what a
    file's metadata says, ``ranges`` those that the checkpoint holds.
    """

    architecture: Architecture
    network: Subnet
    checkpoint: Checkpoint
    images: ImageSet | None
    calibration: ImageSet | None
    notes: Mapping[str, str]
    ranges: TrainedRanges | None


@contextmanager
def trained_filling(
    architecture: Architecture,
    training: Training,
    emission: Emission,
    on_step: OnStep = lambda done, expected: None,
) -> Iterator[Filling]:
    """The architecture's weights from a checkpoint, batch normalisations folded in.

    To be written within the context, as with `prepared`. Raises `CheckpointError` for a file of
    neither the architecture nor a supernet of its space, nor of a network that it is a narrower
    form of, `DataError` for images that cannot be read or do not fit it, `TrainingError` from
    fine-tuning, `UsageError` where weights are to be trained and ranges kept.
    """
    with prepared(architecture, training, on_step) as found:
        yield filled(found, training, emission)


@contextmanager
def prepared(
    architecture: Architecture | None,
    training: Training,
    on_step: OnStep = lambda done, expected: None,
) -> Iterator[Prepared]:
    """The architecture's network, fine-tuned and with statistics of its own as ``training`` says.

    What is made of it is to be written within the context: the state of fine-tuning is there until
    then. ``architecture`` is not needed where the checkpoint is one network's. Raises as
    `trained_filling`.
    """
    checkpoint = read_checkpoint(training.checkpoint)
    images = None
    if training.data is not None:
        images = load_images(training.data, "train", augmentation_of(checkpoint))
        known = architecture or checkpoint.architecture
        if known is not None:
            images.require_fit(get_space(known.space))
    architecture, network = load_network(checkpoint, architecture, training.criterion)
    ranges = None
    if architecture == checkpoint.architecture:
        ranges = trained_ranges(checkpoint, network.graph)
    vain = training.fine_tune_epochs or training.calibration_data
    if ranges is not None and training.ranges is None and vain:
        raise UsageError(
            f"{checkpoint.source} holds ranges that were trained with its weights: leave out"
            " fine-tuning, which would change these, and calibration images"
        )
    shape = network.graph.input_shape
    calibration = _calibration_images(images, training.calibration_data, shape.channels)
    notes = {
        "weights": f"trained: {Path(checkpoint.source).name}, SHA-256 {checkpoint.digest}",
        "pixels": _pixels_text(shape.channels),
    }
    found = Prepared(architecture, network, checkpoint, images, calibration, notes, ranges)
    with _resumption(found, training) as resumption:
        adapted = _adapted(found, training, resumption, on_step)
        yield replace(found, notes={**notes, **adapted})


def filled(found: Prepared, training: Training, emission: Emission) -> Filling:
    """The weights of a prepared network and, for int8, the ranges of its feature maps."""
    weights, notes = found.network.weights(), dict(found.notes)
    if emission.precision != "int8":
        return Filling(weights, notes)
    if found.ranges is not None and training.ranges is None:
        notes["ranges"] = f"trained in {found.ranges.format}'s int8"
        return Filling(weights, notes, found.ranges.maps)
    rule = training.ranges or RangeRule()
    calibration, notes["calibration"] = _calibration(found.calibration, found.architecture.r)
    notes["ranges"] = str(rule)
    return Filling(weights, notes, rule.ranges(found.network.graph, weights, calibration))


def augmentation_of(checkpoint: Checkpoint) -> Augmentation:
    """As the supernet was trained, for fine-tuning; where its file does not say, the default."""
    named = checkpoint.about.get("augmentation")
    return next((known for known in AUGMENTATIONS if known == named), "full")


def _adapted(
    found: Prepared, training: Training, resumption: Resumption | None, on_step: OnStep
) -> dict[str, str]:
    """Fine-tune and re-estimate as asked; what was done, for the metadata."""
    checkpoint, images, resolution = found.checkpoint, found.images, found.architecture.r
    if images is None or (found.ranges is not None and not training.fine_tune_epochs):
        # Ranges were trained with the statistics as they are.
        if checkpoint.architecture is None:
            return {"statistics": _SHARED}
        own = checkpoint.architecture == found.architecture
        return {"statistics": _OWN if own else _BEFORE}
    notes = {}
    if training.fine_tune_epochs:
        epochs = training.fine_tune_epochs
        fine_tune(
            found.network,
            images,
            resolution,
            epochs,
            seed=training.seed,
            resumption=resumption,
            on_step=on_step,
        )
        plural = "s" if epochs > 1 else ""
        notes["fine_tuning"] = f"{epochs} epoch{plural} on {images.source}, seed {training.seed}"
    count = tune_statistics(found.network, images, resolution)
    return {**notes, "statistics": f"of {count} training images of {images.source}"}


def _resumption(found: Prepared, training: Training) -> AbstractContextManager[Resumption | None]:
    if training.output is None or not training.fine_tune_epochs:
        return nullcontext()
    settings = {
        "checkpoint": found.checkpoint.digest,
        "network": found.architecture.key,
        "data": str(training.data),
        "epochs": training.fine_tune_epochs,
        "seed": training.seed,
        "criterion": training.criterion,
    }
    return Resumption(training.output, settings)


def _calibration_images(
    images: ImageSet | None, folder: str | Path | None, channels: int
) -> ImageSet | None:
    """Those for the ranges of 8 bits: of a folder, or the training images."""
    if folder is None:
        return images
    found = load_unlabelled(folder, channels)
    if found.channels != channels:
        raise DataError(
            f"{folder}: its images have {found.channels} channels; the network takes {channels}"
        )
    return found


def _calibration(
    images: ImageSet | None, resolution: int
) -> tuple[npt.NDArray[np.float32] | None, str]:
    """Images (N, C, H, W) for the ranges of 8 bits, and which they are."""
    if images is None:
        return None, "random inputs: ranges may be far from those of images"
    chosen = shuffled(len(images))[:CALIBRATION_IMAGES]
    features, _ = images.batch(chosen, resolution)
    return features.numpy(), f"{len(chosen)} images of {images.source}"


def _pixels_text(channels: int) -> str:
    """What a user of the file must do to an image."""
    mean, deviation = (
        " ".join(f"{value:g}" for value in values.flatten().tolist())
        for values in normalisation(channels)
    )
    order = "RGB" if channels == 3 else "grey"
    return f"{order}; (value / 255 - mean) / deviation, mean {mean}, deviation {deviation}"
