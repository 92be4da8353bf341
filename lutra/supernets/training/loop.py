"""Training itself: steps, epochs and phases from a position to the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lutra.errors import TrainingError
from lutra.spaces.architecture import Architecture
from lutra.supernets.data.base import ImageSet
from lutra.supernets.elastic.sorting import sort_channels
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import inherited_top1
from lutra.supernets.training.batches import Batches
from lutra.supernets.training.chance import Use, generator, torch_seed
from lutra.supernets.training.events import Clock, EventLog, OnNote, OnStep
from lutra.supernets.training.losses import Batch, Passes, sandwich_losses, shrinking_losses
from lutra.supernets.training.optimization import casting_of, optimizer_of, scaler_of, set_rate
from lutra.supernets.training.processes import Processes
from lutra.supernets.training.schedule import Phase
from lutra.supernets.training.settings import Settings
from lutra.supernets.training.state import STATE_FILE, Position, State, write_state

VALIDATED_IMAGES = 2000  # after an epoch
_TEACHER_WORK = 1 / 3  # of a network's that is trained
_CHECKED_STEPS = {"cpu": 1, "cuda": 20}  # looking at a GPU's numbers waits for it


@dataclass(frozen=True)
class Surroundings:
    """What a training works with, and whom it tells; the first process writes into ``folder``."""

    folder: Path
    train: ImageSet
    validation: ImageSet
    device: torch.device
    processes: Processes
    save_seconds: float
    workers: int
    log_folder: Path | None
    on_step: OnStep
    on_note: OnNote


@dataclass
class Training:
    """A training in this process. What it is about to do is its position."""

    supernet: Supernet
    settings: Settings
    phases: Sequence[Phase]
    around: Surroundings
    position: Position = field(default_factory=Position)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds_before: float = 0.0
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        settings, around = self.settings, self.around
        self.supernet.to(around.device).train()
        self._passes = Passes(self.supernet, casting_of(settings.precision, around.device))
        self._optimizer = optimizer_of(self.supernet)
        self._scaler = scaler_of(settings.precision, around.device)
        self._batches = Batches(
            around.train,
            self.supernet.space,
            batch=settings.batch,
            seed=settings.seed,
            rank=around.processes.rank,
            processes=around.processes.count,
            workers=around.workers,
        )
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=around.device)

    # its state

    def restore(self, state: State) -> None:
        """Be where another run was. Raises KeyError, TypeError, ValueError, RuntimeError."""
        self.position = state.position
        self.history = list(state.history)
        self.seconds_before = state.seconds
        self.supernet.load_state_dict(state.weights)
        if state.teacher is not None:
            self._take_teacher()
            assert self.teacher is not None
            self.teacher.load_state_dict(state.teacher)
        if state.optimizer is not None:
            self._optimizer.load_state_dict(dict(state.optimizer))
        if state.scaler:
            self._scaler.load_state_dict(dict(state.scaler))
        self._loss_sum.fill_(state.position.loss_sum)

    def _state(self) -> State:
        return State(
            settings=self.settings.to_json(),
            position=replace(self.position, loss_sum=self._loss_sum.item()),
            seconds=self.seconds_before + self._clock.seconds,
            history=self.history,
            weights=self.supernet.state_dict(),
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            teacher=None if self.teacher is None else self.teacher.state_dict(),
        )

    def _save(self) -> None:
        """Write the state where this is the first process; all must be numbers."""
        self._require_numbers()
        if self.around.processes.is_first:
            write_state(self._state(), self.around.folder)
        self._saved_at = time.monotonic()

    def _require_numbers(self, *, weights: bool = True) -> None:
        """Raise `TrainingError` where a loss or a weight is no finite number."""
        values = [self._loss_sum, *(self.supernet.parameters() if weights else ())]
        if not all(bool(torch.isfinite(value).all()) for value in values):
            kept = "nothing was kept"
            if (self.around.folder / STATE_FILE).exists():
                kept = f"{self.around.folder / STATE_FILE} is of before"
            raise TrainingError(
                f"the loss is not a finite number in epoch {self.epoch + 1}, step"
                f" {self.position.step}: try again with a --learning-rate lower than"
                f" {self.settings.learning_rate:g}; {kept}"
            )

    # its course

    @property
    def epoch(self) -> int:
        """The epoch it is in, counted over all phases from 0."""
        before = self.phases[: self.position.phase]
        return sum(phase.epochs for phase in before) + self.position.epoch

    @property
    def epochs(self) -> int:
        """All there will be."""
        return sum(phase.epochs for phase in self.phases)

    def _work(self, until_epoch: int, steps: int) -> float:
        """The work of so many epochs and then steps, in networks trained on a batch."""
        work, left = 0.0, until_epoch * self._batches.steps + steps
        for phase in self.phases:
            taken = min(left, phase.epochs * self._batches.steps)
            work += taken * _work_of(phase)
            left -= taken
        return work

    def run(self) -> float:
        """Train to the end; returns the seconds that all runs took so far.

        Raises `TrainingError` where a loss is no number, `DataError` and `CheckpointError`.
        """
        begun = self._work(self.epoch, self.position.step)
        self._clock = Clock(begun, self._work(self.epochs, 0))
        self._saved_at = time.monotonic()
        first = self.around.processes.is_first
        log_folder = self.around.log_folder if first else None
        done = self.epoch * self._batches.steps + self.position.step
        self._log = EventLog(log_folder, done)
        devices = [self.around.device] if self.around.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                while self.position.phase < len(self.phases):
                    self._run_epoch()
        finally:
            self._log.close()
        return self.seconds_before + self._clock.seconds

    def _run_epoch(self) -> None:
        position, around = self.position, self.around
        phase = self.phases[position.phase]
        every = _CHECKED_STEPS[around.device.type]
        for batch in self._batches.of_epoch(self.epoch, position.step):
            self._train_step(phase, batch.on(around.device))
            position.step += 1
            if position.step % every == 0:
                self._require_numbers(weights=False)
            self._clock.advance(_work_of(phase))
            done = self.epoch * self._batches.steps + position.step
            around.on_step(done, self.epochs * self._batches.steps, self._clock.eta_seconds())
            if (
                time.monotonic() - self._saved_at >= around.save_seconds
                and position.step < self._batches.steps
            ):
                self._save()
        self._end_epoch(phase)

    def _train_step(self, phase: Phase, batch: Batch) -> None:
        settings, processes = self.settings, self.around.processes
        step, epoch = self.position.step, self.epoch
        torch.manual_seed(torch_seed(settings.seed, Use.DROPOUT, epoch, step, processes.rank))
        self._optimizer.zero_grad(set_to_none=True)
        networks = self._networks(phase, epoch, step)
        for part in batch.parts(settings.accumulate):
            for loss in self._losses(part, networks):
                share = loss / settings.accumulate  # of the whole batch's mean
                self._scaler.scale(share).backward()  # type: ignore[no-untyped-call]
                self._loss_sum += share.detach() / len(networks)
        processes.average_gradients(self.supernet.parameters())
        set_rate(self._optimizer, self._rate(phase))
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _rate(self, phase: Phase) -> float:
        """Of the step's middle: neither a phase's first step nor its last is without effect."""
        done = self.position.epoch + (self.position.step + 0.5) / self._batches.steps
        return phase.rate(done / phase.epochs, self.settings.batch)

    def _networks(self, phase: Phase, epoch: int, step: int) -> list[Architecture]:
        """The networks of a step, the same in all processes."""
        resolution = self._batches.resolution(epoch, step)
        space = self.supernet.space
        rng = generator(self.settings.seed, Use.NETWORKS, epoch, step, 1)
        if self.settings.method == "progressive":
            return phase.sample(space, rng, resolution, phase.networks)
        extremes = [
            replaced(each, resolution)
            for each in (self.supernet.largest(), self.supernet.smallest())
        ]
        return extremes + phase.sample(space, rng, resolution, phase.networks - len(extremes))

    def _losses(self, batch: Batch, networks: Sequence[Architecture]) -> Iterator[Tensor]:
        if self.settings.method == "progressive":
            return shrinking_losses(self._passes, self.teacher, batch, networks)
        return sandwich_losses(self._passes, batch, networks)

    def _end_epoch(self, phase: Phase) -> None:
        """Record it, make ready for what follows, and save."""
        processes = self.around.processes
        self._require_numbers()
        loss = processes.average(self._loss_sum).item() / self._batches.steps
        record = {"phase": phase.name, "epoch": self.epoch + 1, "loss": loss}
        if processes.is_first:
            record |= self.accuracies(VALIDATED_IMAGES)
            self._report(record)
        self.history.append(record)
        self._loss_sum.zero_()
        if self.position.epoch + 1 < phase.epochs:
            self.position = Position(self.position.phase, self.position.epoch + 1)
        else:
            self.position = Position(self.position.phase + 1)
            self._begin_phase()
        self._save()

    def _begin_phase(self) -> None:
        """Sort channels, take the teacher, and let the optimizer begin anew."""
        self.around.processes.take_from_first(self.supernet)
        if self.position.phase == len(self.phases):
            return
        phase = self.phases[self.position.phase]
        if phase.distils and self.teacher is None:
            self._take_teacher()
        if phase.sorts:
            sort_channels(self.supernet, phase.kept)
        self._optimizer = optimizer_of(self.supernet)
        self._scaler = scaler_of(self.settings.precision, self.around.device)

    def _take_teacher(self) -> None:
        teacher = self.supernet.subnet(self.supernet.largest())
        self.teacher = teacher.to(self.around.device).eval().requires_grad_(False)

    # what it says

    def accuracies(self, limit: int | None = None) -> dict[str, float]:
        """Validation accuracy of the extreme networks, in percent."""
        train, validation = self.around.train, self.around.validation
        networks = {"largest": self.supernet.largest(), "smallest": self.supernet.smallest()}
        return {
            f"{name}_top1_percent": inherited_top1(
                self.supernet, network, train, validation, limit=limit
            ).percent
            for name, network in networks.items()
        }

    def _report(self, record: Mapping[str, Any]) -> None:
        largest, smallest = record["largest_top1_percent"], record["smallest_top1_percent"]
        self.around.on_note(
            f"epoch {record['epoch']}/{self.epochs} ({record['phase']}): loss"
            f" {record['loss']:.3f}, largest {largest:.1f} %, smallest {smallest:.1f} %"
        )
        numbers = {name: value for name, value in record.items() if isinstance(value, float)}
        numbers["learning_rate"] = self._optimizer.param_groups[0]["lr"]  # of the last step
        self._log.write((self.epoch + 1) * self._batches.steps, numbers)


def _work_of(phase: Phase) -> float:
    return phase.networks + (_TEACHER_WORK if phase.distils else 0.0)


def replaced(architecture: Architecture, resolution: int) -> Architecture:
    """The same choices at another resolution (pixels)."""
    return Architecture(architecture.space, resolution, architecture.lists)
