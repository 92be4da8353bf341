"""What the networks of a step are trained for, one after the other.

Each loss is to be propagated back before the next is asked for: one network's feature maps are in
memory at a time, and gradients add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.spaces.architecture import Architecture
from lutra.supernets.elastic.supernet import Supernet

LABEL_SMOOTHING = 0.1
DROPOUT = 0.1


class Batch(NamedTuple):
    """Images (N, C, H, W) as networks take them, and labels (N,)."""

    images: Tensor
    labels: Tensor

    def parts(self, count: int) -> list[Batch]:
        """The batch in so many equal parts, in order; ``count`` divides its images."""
        images, labels = (torch.split(each, len(each) // count) for each in self)
        return [Batch(*part) for part in zip(images, labels, strict=True)]

    def on(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(self.images.to(device), self.labels.to(device))


class Passes(NamedTuple):
    """Networks' outputs: by the supernet, and under ``casting``, which sets their precision."""

    supernet: Supernet
    casting: Callable[[], AbstractContextManager[object]]

    def logits(self, batch: Batch, architecture: Architecture) -> Tensor:
        """(N, classes) in float32."""
        with self.casting():
            logits: Tensor = self.supernet(batch.images, architecture)
        return logits.float()

    @torch.no_grad()
    def soft_labels(self, teacher: nn.Module, batch: Batch) -> Tensor:
        """A network's probabilities (N, classes) in float32."""
        with self.casting():
            logits: Tensor = teacher(batch.images)
        return logits.float().softmax(1)


def shrinking_losses(
    passes: Passes, teacher: nn.Module | None, batch: Batch, networks: Sequence[Architecture]
) -> Iterator[Tensor]:
    """Progressive shrinking's: smoothed cross-entropy with the labels, and as much with a teacher.

    The distillation ratio is 1.0, as published.
    """
    soft = None if teacher is None else passes.soft_labels(teacher, batch)
    passes.supernet.dropout = DROPOUT
    for architecture in networks:
        logits = passes.logits(batch, architecture)
        loss = label_cross_entropy(logits, batch.labels)
        yield loss if soft is None else loss + functional.cross_entropy(logits, soft)


def sandwich_losses(
    passes: Passes, batch: Batch, networks: Sequence[Architecture]
) -> Iterator[Tensor]:
    """The sandwich rule's: the first network learns from the labels, the others from it.

    Only the first, the largest, is regularised by dropout (Yu et al., "BigNAS", ECCV 2020).
    """
    largest, *others = networks
    passes.supernet.dropout = DROPOUT
    logits = passes.logits(batch, largest)
    soft = logits.detach().softmax(1)
    yield label_cross_entropy(logits, batch.labels)
    del logits
    passes.supernet.dropout = 0.0
    for architecture in others:
        yield functional.cross_entropy(passes.logits(batch, architecture), soft)


def label_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of (N, classes) with labels (N,), smoothed by 0.1."""
    return functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
