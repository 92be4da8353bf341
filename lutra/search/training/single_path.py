"""Single-path search: a table, a budget and training images in; a trained network out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lutra.errors import UsageError
from lutra.files import write_atomically
from lutra.files.kinds import CURVE, CURVE_FORMAT
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import DeviceOrSpec
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.search.candidate import Candidate, Evaluated
from lutra.search.measuring.caution import CONFIDENCE
from lutra.search.measuring.closed_loop import require_sane
from lutra.search.measuring.measured import MeasuredCandidates
from lutra.search.question import Maxima, TableOrPath, ask
from lutra.search.result import SearchResult
from lutra.search.training.course import RATE_FROM_CHECKPOINT, Asked, Course
from lutra.search.training.keeping import Keeping, Kept
from lutra.spaces import Rows, SearchSpace
from lutra.tables import opened_table

if TYPE_CHECKING:
    from lutra.supernets.data.base import Augmentation
    from lutra.supernets.single_path.network import SuperkernelNetwork
    from lutra.supernets.single_path.training import SearchStep
    from lutra.supernets.subnet import Subnet

NAME = "single-path"
EPOCHS = 10
RATE = 0.05  # at `fine_tuning.BATCH` images a step


@dataclass(frozen=True, eq=False)
class SinglePathSearch:
    """What a single-path search ends with.

    ``result`` has the one network, whose accuracy is that of ``subnet``, its trained weights, on
    the validation images; ``steps`` are the course of the search.
    """

    result: SearchResult
    subnet: Subnet
    steps: tuple[SearchStep, ...]

    def write_weights(self, path: str | Path) -> None:
        """Write the weights as a network file; raises `CheckpointError` and `UsageError`."""
        from lutra.supernets.checkpoints.network import save_network

        result = self.result
        about = {"search": NAME, "seed": result.seed, **result.hyperparameters}
        save_network(self.subnet, result.best.architecture, Path(path), about)

    def write_curve(self, path: str | Path) -> None:
        """Write the steps as JSON; raises `ResultError`, and `UsageError` over another's file."""
        steps = [step.to_json() for step in self.steps]
        document = {"format": CURVE_FORMAT, "version": 1, "steps": steps}
        write_atomically(Path(path), f"{json.dumps(document)}\n".encode(), kind=CURVE)


class _MeasuredAccuracy(AccuracyPredictor):
    """Says where the accuracy of a search's one network comes from; it predicts none."""

    def __init__(self, space: str, resolution: int, data: Path, images: int) -> None:
        self.name = NAME
        self.space = space
        self.resolutions = (resolution,)
        self.provenance = (
            f"top-1 of the weights that the search trained, on {images} validation images of"
            f" {data.resolve().name}"
        )
        self.quality: dict[str, float] = {}

    def predict(self, rows: Rows) -> Accuracies:
        return np.full(len(rows), np.nan)


def train_single_path(
    table: TableOrPath,
    data: str | Path,
    *,
    max_latency_ms: float | None = None,
    trade_off: float = 0.0,
    space: SearchSpace | str | None = None,
    checkpoint: str | Path | None = None,
    resolution: int | None = None,
    epochs: int = EPOCHS,
    fine_tune_epochs: int = EPOCHS,
    learning_rate: float | None = None,
    augmentation: Augmentation | None = None,
    device: DeviceOrSpec | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    watch: Watch = UNWATCHED,
    on_step: Callable[[int, int], None] | None = None,
) -> SinglePathSearch:
    """Train weights and architecture in one network, then the network that was chosen.

    Single-Path NAS (Stamoulis et al., ECML PKDD 2019) on the images in the folder ``data``: all
    choices of kernels, expansions and depths share the largest network's weights, and thresholds
    that are trained along say which are used. The loss is cross-entropy plus ``trade_off`` *
    log(latency). With ``max_latency_ms`` that factor moves until the table's prediction keeps the
    budget, and so does what is chosen: by the upper end of its interval where one is known.

    The space is that of the table, at one ``resolution`` (pixels; by default the highest that the
    table holds). Weights begin as random numbers, or as a supernet's in ``checkpoint``. Of the
    search ``epochs``, then ``fine_tune_epochs`` of the chosen network alone; ``learning_rate`` is
    the search's at its beginning, ``augmentation`` as in `train_supernet`, by default as the
    supernet's training had it. ``on_step`` is told steps done and all there are.

    With a ``device``, the table's own or its spec, what the search ends with is measured there, in
    rounds with networks that the table knows, before it is fine-tuned. Where it is over the budget
    (`Verified.upper_ms`, at ``confidence``) or leaves more than 2 % of it, the search goes on from
    its weights and thresholds, each time for a quarter of its epochs, with a limit on predictions
    by what was seen; three times at most. The result is the slowest that keeps the budget, else the
    nearest to it: its `ClosedLoop` and notes say which. What was measured stays in the table, as
    with `find_within_budget`.
    ``watch`` accompanies the measuring. A device that is lost loses no training: notes say so.

    Raises `UsageError` for a space without such choices and for what cannot be asked,
    `InfeasibleError` for a budget that no network keeps, `MissingOpError`, `TableError`,
    `CheckpointError`, `DataError`, `DeviceError` where the device cannot be opened before anything
    is trained, and `TrainingError` where the loss is no number.

    >>> found = train_single_path(
    ...     "small.lut", "images", max_latency_ms=0.4, epochs=1, fine_tune_epochs=1)
    >>> found.result.best.predicted_ms <= 0.4, found.steps[0].runtime_ms > 0.4
    (True, True)
    >>> found.write_weights("network.pth")
    """
    if epochs < 1 or fine_tune_epochs < 0:
        raise UsageError(
            f"{epochs} epochs of search and {fine_tune_epochs} of fine-tuning cannot be:"
            " 1 and 0 at least"
        )
    if seed < 0:
        raise UsageError(f"seed {seed} must not be negative")
    if learning_rate is None:
        learning_rate = RATE if checkpoint is None else RATE_FROM_CHECKPOINT
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"a learning rate of {learning_rate} must be above zero and finite")
    augmentation = augmentation or _augmentation_of(checkpoint)
    asked = _ask(table, Path(data), augmentation, max_latency_ms, trade_off, space, resolution)
    keeping = None if device is None else _keeping(asked, table, device, confidence, watch)
    course = Course(
        asked,
        _network(asked.question.space.name, checkpoint, seed),
        epochs=epochs,
        fine_tune_epochs=fine_tune_epochs,
        learning_rate=learning_rate,
        seed=seed,
        on_step=on_step or (lambda done, expected: None),
    )
    started = time.process_time()
    candidate, kept = course.begin(), None
    if keeping is not None:
        kept = keeping.run(candidate, course.go_on)
        candidate = kept.candidate
    subnet = course.trained(candidate)
    settings = {
        "epochs": epochs,
        "fine_tune_epochs": fine_tune_epochs,
        "learning_rate": learning_rate,
        "trade_off": trade_off,
        "augmentation": augmentation,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
    found = _evaluated(asked, candidate, subnet)
    result = asked.question.result(
        (found,),
        algorithm=NAME,
        seed=seed,
        settings=settings,
        evaluations=len(course.steps),
        cpu_seconds=time.process_time() - started,
        notes=_notes(found, kept),
    )
    if kept is not None:
        result = replace(result, closed_loop=kept.closed_loop)
    return SinglePathSearch(result, subnet, tuple(course.steps))


def _keeping(
    asked: Asked, table: TableOrPath, device: DeviceOrSpec, confidence: float, watch: Watch
) -> Keeping:
    """What measures; raises `UsageError` without a budget, and what opening the device raises."""
    question, latency = asked.question, asked.question.predictor.latency
    require_sane(confidence)
    if question.maxima.latency_ms is None:
        raise UsageError("name the budget that is to be kept, such as max_latency_ms=20.0")
    measured = MeasuredCandidates(question.space, float(question.maxima.latency_ms), confidence)
    at = question.resolutions
    range_ms = latency.cheapest(at)[0], latency.dearest(at)[0]
    return Keeping(table, device, measured, range_ms, watch)


def _evaluated(asked: Asked, candidate: Candidate, subnet: Subnet) -> Candidate:
    """The candidate with the accuracy of its weights on the validation images."""
    from lutra.supernets.evaluation import top1

    found = top1(subnet, asked.validation, asked.resolution)
    evaluated = Evaluated(found.percent, *found.interval_percent, found.count)
    return replace(candidate, accuracy=found.percent, evaluated=evaluated)


def _notes(candidate: Candidate, kept: Kept | None) -> tuple[str, ...]:
    notes = () if kept is None else kept.notes
    if candidate.predicted_high_ms is not None or candidate.verified is not None:
        return notes
    return (
        "how far off predictions of this table are is not known, so networks may take longer"
        " than predicted: `lutra calibrate` tells",
        *notes,
    )


def _ask(
    table: TableOrPath,
    data: Path,
    augmentation: Augmentation,
    max_latency_ms: float | None,
    trade_off: float,
    space: SearchSpace | str | None,
    resolution: int | None,
) -> Asked:
    """Read table and images; raises whatever does not fit together, before anything is trained."""
    from lutra.supernets.data.loading import load_images
    from lutra.supernets.single_path.budget import Budget
    from lutra.supernets.single_path.network import elastic_space
    from lutra.supernets.single_path.pressure import Pressure
    from lutra.supernets.single_path.runtime import Runtime
    from lutra.supernets.training.train import require_fit

    with opened_table(table) as opened:
        predictor = EfficiencyPredictor(opened, space)
        elastic = elastic_space(predictor.space.name)
        resolution = max(predictor.resolutions) if resolution is None else resolution
        elastic.check_resolutions([resolution])
        runtime = Runtime(predictor, elastic, resolution)
        budget = Budget(predictor, resolution, max_latency_ms)
        pressure = Pressure(trade_off, budget.predicted_ms)
        train = load_images(data, "train", augmentation)
        validation = load_images(data, "validation")
        for part in (train, validation):
            require_fit(part, elastic)
        accuracy = _MeasuredAccuracy(elastic.name, resolution, data, len(validation))
        question = ask(
            opened,
            Maxima(latency_ms=max_latency_ms),
            space=space,
            accuracy=accuracy,
            resolutions=[resolution],
        )
    return Asked(question, runtime, budget, pressure, train, validation)


def _augmentation_of(checkpoint: str | Path | None) -> Augmentation:
    """A supernet's own, for its weights forget what they know on images unlike those before."""
    from lutra.supernets.checkpoints.checkpoint import read_checkpoint
    from lutra.supernets.deployment.trained import augmentation_of

    return "full" if checkpoint is None else augmentation_of(read_checkpoint(checkpoint))


def _network(space: str, checkpoint: str | Path | None, seed: int) -> SuperkernelNetwork:
    """With a checkpoint's weights, or random ones."""
    from lutra.supernets.checkpoints.checkpoint import load_supernet
    from lutra.supernets.elastic.supernet import Supernet
    from lutra.supernets.single_path.network import SuperkernelNetwork
    from lutra.supernets.subnet import initialise

    if checkpoint is not None:
        return SuperkernelNetwork(load_supernet(checkpoint, space))
    supernet = Supernet(space)
    initialise(supernet, seed)
    return SuperkernelNetwork(supernet)
