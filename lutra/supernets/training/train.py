"""`train_supernet`: from a space and a folder of images to a supernet's checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lutra.errors import CheckpointError, DataError, UsageError
from lutra.files import check_output
from lutra.files.kinds import SUPERNET, TRAINING
from lutra.spaces.base import SearchSpace
from lutra.spaces.registry import get_space
from lutra.spaces.variant import parse_family_name
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.data.base import AUGMENTATIONS, Augmentation, ImageSet
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import initialise
from lutra.supernets.training.chance import Use, torch_seed
from lutra.supernets.training.events import OnNote, OnStep
from lutra.supernets.training.loop import Surroundings, Training
from lutra.supernets.training.optimization import default_precision, require_rate
from lutra.supernets.training.processes import device_of, joined_processes
from lutra.supernets.training.schedule import REFERENCE_BATCH, Phase, schedule_of
from lutra.supernets.training.settings import PRECISIONS, Settings
from lutra.supernets.training.state import (
    STATE_FILE,
    State,
    hold_output,
    parse_state,
    read_state_bytes,
    write_state,
)
from lutra.supernets.training.threads import torch_threads

SUPERNET_FILE = "supernet.pth"
BATCH = 128
SAVE_SECONDS = 300.0
_GPU_WORKERS = 8


@dataclass(frozen=True)
class TrainedSupernet:
    """A supernet's checkpoint and what it says of its making.

    ``about`` has the settings, ``seconds``, ``history`` (a record per epoch) and the validation
    accuracy of the extreme networks.
    """

    path: Path
    about: Mapping[str, Any]

    @property
    def largest_top1_percent(self) -> float:
        """Validation accuracy of the largest network, statistics re-estimated."""
        return float(self.about["largest_top1_percent"])

    @property
    def smallest_top1_percent(self) -> float:
        """Validation accuracy of the smallest network, statistics re-estimated."""
        return float(self.about["smallest_top1_percent"])

    def to_json(self) -> dict[str, Any]:
        """As `lutra supernet train --json` prints it."""
        return {"checkpoint": str(self.path), **self.about}


def train_supernet(
    space: str | SearchSpace,
    data_folder: str | Path,
    output: str | Path,
    *,
    method: str = "progressive",
    epochs: int | None = None,
    batch: int = BATCH,
    learning_rate: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str | None = None,
    augmentation: Augmentation = "full",
    threads: int | None = None,
    workers: int | None = None,
    recompute: bool = False,
    accumulate: int = 1,
    save_seconds: float = SAVE_SECONDS,
    log_folder: str | Path | None = None,
    command: str | None = None,
    on_step: OnStep = lambda done, expected, eta_seconds: None,
    on_note: OnNote = lambda text: None,
) -> TrainedSupernet:
    """Train a supernet of a space on the images in a folder; ``output/supernet.pth`` is the result.

    ``method`` is ``progressive`` (progressive shrinking, Cai et al., ICLR 2020) or ``sandwich``
    (BigNAS's single stage, Yu et al., ECCV 2020). ``epochs`` are in all, by default as many as
    published (590; 360), and phases have their published shares of them. ``batch`` images make a
    step, of all processes together. ``learning_rate`` is the first phase's peak for that batch;
    by default the published one. ``precision`` is ``fp32``, ``bf16`` or ``fp16`` (on GPUs bf16
    unless they lack it). ``augmentation`` is ``full``, ``unmirrored`` (as digits must be) or
    ``none``. ``workers`` threads make batches ahead of time (on GPUs). ``recompute``
    trades time for memory, and so does ``accumulate``: each process takes its images of a step in
    so many equal parts, one after the other, and sums their gradients. That is the same step but
    for batch normalisation, which is over a part's images, and for what dropout draws.

    Every ``save_seconds`` and after each epoch ``output/state.pth`` is replaced; a training that
    was stopped, however, goes on from there by the same call, to the same weights as without the
    stop (on CPUs, with as many threads). Under torchrun the processes share each step's images.
    ``on_step`` is told steps done, all there are and the seconds left, ``on_note`` a line per
    epoch. ``log_folder`` takes TensorBoard's event files.

    Raises `UsageError` for what cannot be asked for, `DataError` for images that cannot be read or
    do not fit, `CheckpointError` for a state that cannot be read or written, `TrainingError` where
    the loss is no number.

    >>> trained = train_supernet(
    ...     "ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:28:4", "images", "trained",
    ...     method="sandwich", epochs=1, batch=32)
    >>> trained.path.name, 0 <= trained.largest_top1_percent <= 100
    ('supernet.pth', True)
    """
    space = get_space(space)
    phases = _phases(space, method, epochs, batch, learning_rate)
    _require_sane(batch=batch, seed=seed, precision=precision, threads=threads, workers=workers)
    if augmentation not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise UsageError(f"unknown augmentation '{augmentation!s:.20}'; known: {known}")
    images = {
        split: load_images(data_folder, split, augmentation) for split in ("train", "validation")
    }
    for part in images.values():
        require_fit(part, space)
    train, validation = images["train"], images["validation"]
    chosen = device_of(device)
    folder = Path(output)
    with ExitStack() as stack:
        processes = stack.enter_context(joined_processes(chosen))
        _require_parts(processes.share_of(batch), accumulate)
        if processes.is_first:
            stack.enter_context(_held(folder))
        stack.enter_context(torch_threads(threads))
        settings = Settings(
            space=space.name,
            data=f"{len(train)} images, digest {train.identity}",
            method=method,
            epochs=sum(phase.epochs for phase in phases),
            batch=batch,
            learning_rate=phases[0].learning_rate * batch / REFERENCE_BATCH,
            seed=seed,
            precision=precision or default_precision(chosen),
            augmentation=augmentation,
            processes=processes.count,
            recompute=recompute,
            accumulate=accumulate,
        )
        surroundings = Surroundings(
            folder=folder,
            train=train,
            validation=validation,
            device=chosen,
            processes=processes,
            save_seconds=save_seconds,
            workers=_workers(workers, chosen),
            log_folder=None if log_folder is None else Path(log_folder),
            on_step=on_step,
            on_note=on_note if processes.is_first else lambda text: None,
        )
        about = {"data": train.source, **({"command": command} if command else {})}
        return _trained(space, settings, phases, surroundings, about)


def _trained(
    space: SearchSpace,
    settings: Settings,
    phases: list[Phase],
    around: Surroundings,
    about: Mapping[str, Any],
) -> TrainedSupernet:
    """Train from the state in the folder, if there is one, to the end."""
    state = _read_state(settings, around)
    supernet = Supernet(space, recompute=settings.recompute)
    initialise(supernet, torch_seed(settings.seed, Use.WEIGHTS))
    path = around.folder / SUPERNET_FILE
    if state is not None and state.result is not None:
        _restored(lambda: supernet.load_state_dict(state.weights), around.folder)
        around.on_note(f"this training is finished: {path}")
        if around.processes.is_first and not path.exists():
            save_supernet(supernet, path, state.result)
        return TrainedSupernet(path, state.result)
    training = Training(supernet, settings, phases, around)
    if state is not None:
        _restored(lambda: training.restore(state), around.folder)
        around.on_note(f"going on at epoch {training.epoch + 1}, step {training.position.step + 1}")
    seconds = training.run()
    accuracies = training.accuracies()
    result = {
        **settings.to_json(),
        **about,
        "seconds": round(seconds, 1),
        "torch": str(torch.__version__),  # whose own type no reader would take
        **accuracies,
        "history": training.history,
    }
    if around.processes.is_first:
        save_supernet(supernet, path, result)
        write_state(_finished(training, settings, result, seconds), around.folder)
    return TrainedSupernet(path, result)


def _finished(
    training: Training, settings: Settings, result: dict[str, Any], seconds: float
) -> State:
    return State(
        settings=settings.to_json(),
        position=training.position,
        seconds=seconds,
        history=training.history,
        weights=training.supernet.state_dict(),
        result=result,
    )


def _read_state(settings: Settings, around: Surroundings) -> State | None:
    processes = around.processes
    data = processes.from_first(read_state_bytes(around.folder) if processes.is_first else None)
    if data is None:
        return None
    source = str(around.folder / STATE_FILE)
    state = parse_state(data, source)
    settings.require_same(state.settings, source)
    return state


def _restored(restore: Callable[[], object], folder: Path) -> None:
    """Have a state's weights in place; raises `CheckpointError` where they are others."""
    try:
        restore()
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / STATE_FILE} does not hold what a training of this space needs: remove it"
            " to begin anew"
        ) from error


def _phases(
    space: SearchSpace, method: str, epochs: int | None, batch: int, learning_rate: float | None
) -> list[Phase]:
    if learning_rate is not None:
        require_rate(learning_rate)
    reference = None if learning_rate is None else learning_rate * REFERENCE_BATCH / max(batch, 1)
    return schedule_of(method, space, epochs, reference)


def _require_sane(
    *, batch: int, seed: int, precision: str | None, threads: int | None, workers: int | None
) -> None:
    if batch < 2:
        raise UsageError(f"a batch of {batch} images is too small to normalise over: 2 at least")
    if seed < 0:
        raise UsageError(f"seed {seed} must not be negative")
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"unknown precision '{precision!s:.20}'; known: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads are too few")
    if workers is not None and workers < 0:
        raise UsageError(f"{workers} workers are too few")


def _require_parts(images: int, count: int) -> None:
    if count < 1:
        raise UsageError(f"a batch in {count} parts: 1 at least, which is all of it at once")
    if images % count:
        raise UsageError(f"{images} images of a step do not divide into {count} parts")
    if images // count < 2:
        raise UsageError(
            f"{images} images of a step in {count} parts are too few to normalise over: 2 at least"
            " in each"
        )


def require_fit(images: ImageSet, space: SearchSpace) -> None:
    """Like `ImageSet.require_fit`; the message also has the name of a space that fits."""
    try:
        images.require_fit(space)
    except DataError as error:
        name = parse_family_name(space.name, lambda family: True)
        if name is None:
            raise
        variant = replace(name.variant, classes=len(images.classes), channels=images.channels)
        fitting = replace(name, variant=variant)
        raise DataError(f"{error}; of this family that is --space {fitting}") from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The output folder, made where it is missing, and no other training's meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    for name, kind in ((STATE_FILE, TRAINING), (SUPERNET_FILE, SUPERNET)):
        check_output(folder / name, kind, CheckpointError)
    with hold_output(folder):
        yield


def _workers(count: int | None, device: torch.device) -> int:
    if count is not None:
        return count
    return 0 if device.type == "cpu" else min(_GPU_WORKERS, os.cpu_count() or 1)
