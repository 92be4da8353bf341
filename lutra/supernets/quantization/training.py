"""Quantisation-aware training: weights and ranges that are good in int8."""

from __future__ import annotations

from collections.abc import Mapping

from lutra.emitters.quantization import Range
from lutra.supernets.data.base import ImageSet
from lutra.supernets.deployment.fine_tuning import BATCH, Loss, fine_tune, label_loss
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.evaluation import OnStep
from lutra.supernets.quantization.simulated import SimulatedInt8
from lutra.supernets.subnet import Subnet

LEARNING_RATE = 0.005  # at fine-tuning's batch; the network is trained already


def train_quantised(
    network: Subnet,
    format: str,
    ranges: Mapping[str, Range],
    images: ImageSet,
    resolution: int,
    epochs: int,
    *,
    observer: str = "moving",
    learning_rate: float = LEARNING_RATE,
    batch: int = BATCH,
    seed: int = 0,
    loss: Loss = label_loss,
    resumption: Resumption | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> dict[str, Range]:
    """Fine-tune a trained network as its int8 file of ``format`` computes it; returns its ranges.

    ``ranges``, by rule, are what it begins with; ``observer`` says how they follow the batches.
    ``network`` has the trained weights afterwards, its statistics are as they were
    (`SimulatedInt8`). Raises what `fine_tune` does, `UsageError` for an unknown format or observer.
    """
    simulated = SimulatedInt8(network, format, ranges, observer)
    fine_tune(
        simulated,
        images,
        resolution,
        epochs,
        learning_rate=learning_rate,
        batch=batch,
        seed=seed,
        loss=loss,
        resumption=resumption,
        on_step=on_step,
    )
    return simulated.ranges()
