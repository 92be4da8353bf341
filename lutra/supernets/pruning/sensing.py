"""Measuring what narrowing each gene of a network alone costs in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lutra.errors import UsageError
from lutra.predictors.accuracy.sensitivities import sensitivity_rows
from lutra.spaces.architecture import Architecture
from lutra.spaces.graph_widths import narrower_forms
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.accuracy.sampling import Report, measure_accuracy, sample_accuracy
from lutra.supernets.checkpoints.checkpoint import read_checkpoint
from lutra.supernets.evaluation import ENOUGH_IMAGES
from lutra.supernets.pruning.removal import Criterion


class Sensed(NamedTuple):
    """The space of the network's narrower forms and its resolution, and the points of its curves.

    ``measured`` of the ``points``, and of the networks that judge them, were measured now.
    """

    space: str
    r: int
    points: int
    judges: int
    measured: int


def sense(
    checkpoint: str | Path,
    data: str | Path,
    path: Path,
    *,
    network: Architecture | None = None,
    images: int | None = None,
    calibration_images: int = ENOUGH_IMAGES,
    criterion: Criterion = "independent",
    judges: int = 0,
    on_progress: Report = lambda done, expected, eta_seconds: None,
) -> Sensed:
    """Measure a network's sensitivity curves into a file, points that it holds left out.

    ``network`` is needed where the checkpoint is a supernet's. ``judges`` random narrower networks,
    spread over MACs, are measured too: what `load_accuracy` then says of its quality. Raises
    `CheckpointError`, `DataError`, and what `measure_accuracy` does.
    """
    source = read_checkpoint(checkpoint)
    network = network or source.architecture
    if network is None:
        raise UsageError(
            f"{source.source} is a supernet's: name one of its networks too, a search's result for"
            " example"
        )
    space = narrower_forms(network)
    accuracy = InheritedAccuracy.read(
        source,
        data,
        space=space,
        images=images,
        calibration_images=calibration_images,
        criterion=criterion,
    )
    rows = sensitivity_rows(space)
    found = measure_accuracy(accuracy, path, rows, on_progress=on_progress)
    judged = 0
    measured = found.measured
    if judges:  # the first two are the smallest, and full width
        sampled = sample_accuracy(accuracy, path, count=judges + 1, on_progress=on_progress)
        judged, measured = sampled.subnets - 1, measured + sampled.measured
    return Sensed(space.name, network.r, found.subnets, judged, measured)
