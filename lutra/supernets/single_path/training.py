"""One training of weights and thresholds, and the course that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from lutra.errors import DataError
from lutra.spaces.architecture import Architecture
from lutra.supernets.data.base import ImageSet
from lutra.supernets.deployment.fine_tuning import BATCH, fine_tune
from lutra.supernets.evaluation import OnStep
from lutra.supernets.single_path.network import SuperkernelNetwork
from lutra.supernets.single_path.pressure import Pressure
from lutra.supernets.single_path.runtime import Runtime
from lutra.supernets.training.losses import LABEL_SMOOTHING
from lutra.supernets.training.optimization import MOMENTUM

# How far a threshold comes in a search of any length that pushes it one way, in units of a part's
# norm: parts begin at 1 and are left out at 0.
_REACH = 8.0
_ALONE = 0.2  # of the steps: weights that know nothing yet do not say what they need


@dataclass(frozen=True)
class SearchStep:
    """A step of a search: the loss of its batch and the network that it was of.

    ``runtime_ms`` is that network's predicted latency, ``multiplier`` the price of its logarithm.
    """

    cross_entropy: float
    runtime_ms: float
    multiplier: float
    architecture: Architecture

    def to_json(self) -> dict[str, Any]:
        """For JSON; the architecture as one of OFA's dictionaries."""
        return {
            "cross_entropy": self.cross_entropy,
            "runtime_ms": self.runtime_ms,
            "multiplier": self.multiplier,
            "architecture": self.architecture.to_json(),
        }


def search_training(
    network: SuperkernelNetwork,
    images: ImageSet,
    resolution: int,
    epochs: int,
    *,
    runtime: Runtime,
    pressure: Pressure,
    learning_rate: float,
    batch: int = BATCH,
    after_epochs: int = 0,
    seed: int = 0,
    on_step: OnStep = lambda done, expected: None,
) -> list[SearchStep]:
    """Train weights and thresholds together; the steps that were taken.

    The loss is the cross-entropy with smoothed labels and what ``pressure`` adds for ``runtime``,
    from the second fifth of the steps on. With ``after_epochs`` it goes on with a search of so
    many: from the first step on, thresholds as fast as in that one. Raises `TrainingError` where
    it is no number, and `DataError`.
    """
    if len(images) < 2:
        raise DataError(f"{images.source}: a search needs at least 2 images, not {len(images)}")
    batch = min(batch, len(images))
    whole = (after_epochs or epochs) * (len(images) // batch)
    alone = 0.0 if after_epochs else _ALONE * whole
    # A step moves it by the rate over 1 - momentum; the rate's mean is half of what it begins at.
    network.threshold_speed = 2.0 * _REACH * (1.0 - MOMENTUM) / (max(whole, 1) * learning_rate)
    steps: list[SearchStep] = []

    def loss(module: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
        gates = network.gates()
        taken_ms = runtime(gates)
        logits = module(features, gates)
        entropy = functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        now_ms = float(taken_ms.detach())
        steps.append(
            SearchStep(
                entropy.item(), now_ms, pressure.multiplier, network.architecture(resolution)
            )
        )
        if len(steps) <= alone:
            return entropy
        total = entropy + pressure.of(taken_ms).to(entropy)
        pressure.advance(now_ms, 1.0 / whole)
        return total

    fine_tune(
        network,
        images,
        resolution,
        epochs,
        learning_rate=learning_rate,
        batch=batch,
        seed=seed,
        loss=loss,
        on_step=on_step,
    )
    return steps
