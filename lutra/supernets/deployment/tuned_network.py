"""A found subnet trained further, alone or with teachers, into a file of its own weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lutra.errors import CheckpointError, UsageError
from lutra.files import check_output
from lutra.files.kinds import NETWORK
from lutra.spaces import Architecture, get_space
from lutra.supernets.checkpoints.checkpoint import Checkpoint, load_supernet, read_checkpoint
from lutra.supernets.checkpoints.network import load_network, save_network
from lutra.supernets.data.base import ImageSet
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import (
    BATCH,
    LEARNING_RATE,
    Loss,
    fine_tune,
    label_loss,
)
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.deployment.trained import augmentation_of
from lutra.supernets.evaluation import Accuracy, OnStep, top1, tune_statistics
from lutra.supernets.subnet import Subnet
from lutra.supernets.training.distillation import (
    FSP_WEIGHT,
    SOFT_WEIGHT,
    TEMPERATURE,
    Distillation,
)
from lutra.supernets.training.optimization import require_rate

LARGEST = "largest"


@dataclass(frozen=True)
class FineTuned:
    """A network's file, its top-1 on validation images before and after, how it was trained."""

    path: Path
    architecture: Architecture
    before: Accuracy
    after: Accuracy
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For JSON: what the file says of itself, and where it is."""
        return {"path": str(self.path), "architecture": self.architecture.to_json(), **self.about}


class _Teacher(NamedTuple):
    """A network to learn from, and the file that it is of."""

    source: Checkpoint
    architecture: Architecture
    network: Subnet


def fine_tune_network(
    checkpoint: str | Path,
    data: str | Path,
    path: str | Path,
    *,
    network: Architecture | None = None,
    epochs: int = 1,
    learning_rate: float = LEARNING_RATE,
    teachers: Sequence[str | Path] = (),
    temperature: float = TEMPERATURE,
    soft_weight: float = SOFT_WEIGHT,
    fsp: bool = False,
    seed: int = 0,
    on_step: OnStep = lambda done, expected: None,
) -> FineTuned:
    """Train one network further on images, and write its weights to ``path``.

    ``checkpoint`` is a supernet's file, of which ``network`` says the subnet, or a file that this
    wrote. ``data`` is a folder of images: a tenth of the training ones tells the accuracy before
    and after, nothing is trained on it. Without ``teachers`` the loss is that of the labels. A
    teacher is ``"largest"``, the largest network of the supernet, a network's file, or that of a
    supernet, for its largest; all are given the network's images, at its resolution.
    ``soft_weight`` (0..1) is the share of their probabilities at a ``temperature`` in the loss, and
    ``fsp`` adds their FSP matrices (`Distillation`). Batch-norm statistics are of 2,000 training
    images. Stopped, the same call goes on from ``path`` with ``.state`` behind its name, which is
    written every 30 s and removed at the end.

    Raises `UsageError` for what contradicts itself or the state that is there, `CheckpointError`
    for files that do not fit, `DataError` for images, and `TrainingError` for a loss that is no
    number; no network is written then.

    >>> tuned = fine_tune_network("small.pth", "images", "tuned.pth", teachers=["supernet.pth"])
    >>> tuned.after.count
    10
    >>> evaluate("tuned.pth", "images", split="validation").accuracy == tuned.after
    True
    """
    path = Path(path)
    _require_sane(epochs, learning_rate, seed)
    if not teachers and (temperature, soft_weight, fsp) != (TEMPERATURE, SOFT_WEIGHT, False):
        raise UsageError("soft labels and FSP are a teacher's: name one (--teacher largest)")
    check_output(path, NETWORK, CheckpointError)
    source = read_checkpoint(checkpoint)
    architecture, subnet = load_network(source, network)
    augmentation = augmentation_of(source)
    train = load_images(data, "train", augmentation)
    train.require_fit(get_space(architecture.space))
    validation = load_images(data, "validation")
    taught_by = {_name(each): _teacher(each, source, architecture) for each in teachers}
    loss: Loss = label_loss
    if taught_by:
        loss = Distillation(
            subnet.graph,
            {name: teacher.network for name, teacher in taught_by.items()},
            temperature=temperature,
            soft_weight=soft_weight,
            fsp_weight=FSP_WEIGHT if fsp else 0.0,
        )
    about = {
        "checkpoint": Path(source.source).name,
        "checkpoint_sha256": source.digest,
        "data": str(data),
        "images": len(train),
        "epochs": epochs,
        "batch": BATCH,
        "learning_rate": learning_rate,
        "augmentation": augmentation,
        "seed": seed,
        "loss": _loss_json(loss),
        "teachers": [_teacher_json(teacher) for teacher in taught_by.values()],
        "torch": str(torch.__version__),  # whose own type no reader would take
    }
    with Resumption(path, {"network": architecture.key, **about}) as resumption:
        for teacher in taught_by.values():
            _have_own_statistics(teacher, train, architecture.r)
        _have_own_statistics(_Teacher(source, architecture, subnet), train, architecture.r)
        before = top1(subnet, validation, architecture.r)
        fine_tune(
            subnet,
            train,
            architecture.r,
            epochs,
            learning_rate=learning_rate,
            seed=seed,
            loss=loss,
            resumption=resumption,
            on_step=on_step,
        )
        counted = tune_statistics(subnet, train, architecture.r)
        after = top1(subnet, validation, architecture.r)
        about |= {
            "statistics_images": counted,
            "before": before.to_json(),
            "after": after.to_json(),
        }
        save_network(subnet, architecture, path, about)
    return FineTuned(path, architecture, before, after, about)


def _require_sane(epochs: int, learning_rate: float, seed: int) -> None:
    if epochs < 1:
        raise UsageError(f"{epochs} epochs of fine-tuning: at least 1")
    if seed < 0:
        raise UsageError(f"seed {seed} must not be negative")
    require_rate(learning_rate)


def _name(teacher: str | Path) -> str:
    return "the largest network" if teacher == LARGEST else str(teacher)


def _teacher(named: str | Path, own: Checkpoint, taught: Architecture) -> _Teacher:
    """The network that a name means: of a file, or the largest of the supernet's that is trained.

    A file that does not name its space is of the space of what is taught.
    """
    source = own if named == LARGEST else read_checkpoint(named)
    if source.architecture is not None:
        if named == LARGEST:
            raise UsageError(
                f"{own.source} holds one network, of which there is no larger one: name the file"
                " of a supernet to learn from its largest (--teacher FILE)"
            )
        return _Teacher(source, *load_network(source))
    supernet = load_supernet(source, source.space or taught.space)
    return _Teacher(source, supernet.largest(), supernet.subnet())


def _have_own_statistics(teacher: _Teacher, train: ImageSet, resolution: int) -> None:
    """Re-estimate a network's statistics where it has none of its own at the resolution.

    docs/decisions.md: Teachers see the network's own images
    """
    if teacher.source.architecture is None or teacher.architecture.r != resolution:
        tune_statistics(teacher.network, train, resolution)


def _loss_json(loss: Loss) -> dict[str, float]:
    if not isinstance(loss, Distillation):
        return {"label_weight": 1.0}
    return {
        "label_weight": 1.0 - loss.soft_weight,
        "soft_weight": loss.soft_weight,
        "temperature": loss.temperature,
        "fsp_weight": loss.fsp_weight,
    }


def _teacher_json(teacher: _Teacher) -> dict[str, Any]:
    return {
        "checkpoint": Path(teacher.source.source).name,
        "checkpoint_sha256": teacher.source.digest,
        "architecture": teacher.architecture.to_json(),
    }
