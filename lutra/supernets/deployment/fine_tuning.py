"""Brief training of a subnet on its own, from the weights that it inherited."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lutra.errors import DataError, TrainingError
from lutra.supernets.data.base import ImageSet
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.evaluation import OnStep
from lutra.supernets.training.losses import label_cross_entropy
from lutra.supernets.training.optimization import optimizer_of, set_rate
from lutra.supernets.training.state import Position

LEARNING_RATE = 0.01  # at this batch
BATCH = 64

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Of a network, images (N, C, H, W) and labels (N,), on the device where all three are."""


def label_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels, smoothed by 0.1."""
    return label_cross_entropy(network(images), labels)


def fine_tune(
    network: nn.Module,
    images: ImageSet,
    resolution: int,
    epochs: int,
    *,
    learning_rate: float = LEARNING_RATE,
    batch: int = BATCH,
    seed: int = 0,
    loss: Loss = label_loss,
    resumption: Resumption | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> None:
    """Train on augmented images: SGD with Nesterov's momentum, cosine from ``learning_rate`` to 0.

    Biases and batch normalisations are not decayed, as OFA does. Runs on a GPU where torch has one.
    Leaves the network in inference mode on the CPU; its statistics are those of the last batches:
    `tune_statistics` makes them of many images. With a ``resumption`` it goes on where it was
    stopped, on a CPU to the same weights; the caller writes within that.

    Raises `TrainingError` where the loss is no number, `DataError` for images that cannot be read.
    """
    if len(images) < 2:
        raise DataError(f"{images.source}: fine-tuning needs at least 2 images, not {len(images)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    optimizer = optimizer_of(network)
    rng = np.random.default_rng(seed)
    batch = min(batch, len(images))
    of_epoch = len(images) // batch
    steps = epochs * of_epoch
    begin, drawn = Position(), None
    if resumption is not None:
        begin, drawn = resumption.restore(network, optimizer, rng)
    for epoch in range(begin.epoch, epochs):
        epoch_state = rng.bit_generator.state
        parts = _batches(rng.permutation(len(images)), batch)
        first = begin.step if epoch == begin.epoch else 0
        if drawn is not None and epoch == begin.epoch:
            rng.bit_generator.state = drawn
        for place, indices in enumerate(parts[first:], first):
            step = epoch * of_epoch + place
            set_rate(optimizer, learning_rate * (1 + math.cos(math.pi * step / steps)) / 2)
            features, labels = images.batch(indices, resolution, rng)
            value = loss(network, features.to(device), labels.to(device))
            if not math.isfinite(value.item()):
                if resumption is not None:
                    resumption.remove()  # going on would end here again
                raise TrainingError(
                    f"fine-tuning: the loss is {value.item()} after {step} of {steps} steps;"
                    f" try a smaller learning rate than {learning_rate:g}"
                )
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if resumption is not None:
                states = {"epoch": epoch_state, "step": rng.bit_generator.state}
                at = Position(epoch=epoch, step=place + 1)
                resumption.save(network, optimizer, at, states, last=step + 1 == steps)
            on_step(step + 1, steps)
    network.to("cpu").eval()


def _batches(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """An epoch's batches; what is left over at its end waits for another epoch."""
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
