"""Fitting OFA's accuracy predictor: an MLP over one-hot choices, as its authors train it.

Three hidden layers of 400, Adam with 1e-3 and weight decay 1e-4, the output biased by the mean
(mit-han-lab/once-for-all). Accuracies are scaled to variance 1 while it is trained, so that losses
are of one size whatever the data; the last layer takes that back.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from lutra.predictors.accuracy.additive_fitting import resolutions_in
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.predictors.accuracy.ofa_mlp import MAGIC, VERSION, Encoding, OfaMlpPredictor
from lutra.predictors.accuracy.perceptron import Layer
from lutra.spaces import Rows, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

HIDDEN = 400
STEPS = 600
_BATCH = 32
_RATE = 1e-3
_DECAY = 1e-4


class MlpLearner:
    """Fits OFA's MLP; ``steps`` are of Adam, of 32 architectures, at a rate that ends at 0."""

    name = "mlp"

    def __init__(
        self, space: SearchSpace, *, hidden: int = HIDDEN, steps: int = STEPS, seed: int = 0
    ) -> None:
        self.space = space
        self._hidden = hidden
        self._steps = steps
        self._seed = seed

    def fit(self, rows: Rows, top1: Accuracies) -> OfaMlpPredictor:
        """A predictor from architectures (N, genes) and their top-1 (N,) in percent."""
        import torch

        encoding = Encoding.library(self.space, resolutions_in(self.space, rows))
        mean, spread = float(top1.mean()), float(top1.std()) or 1.0
        features = torch.from_numpy(encoding.encode(rows))
        targets = torch.from_numpy(((top1 - mean) / spread).astype(np.float32))
        with _one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            network = _network(encoding.features, self._hidden)
            _train(network, features, targets, self._steps)
        # What the file has is a fraction, and the mean apart.
        return OfaMlpPredictor(encoding, _layers(network, spread / 100), mean / 100, "")

    def to_bytes(
        self, predictor: AccuracyPredictor, provenance: str, quality: Mapping[str, float]
    ) -> bytes:
        """OFA's library form with the space, the resolutions and where it comes from beside it."""
        import torch

        assert isinstance(predictor, OfaMlpPredictor)
        layers, offset = predictor.layers, predictor.offset
        state = {"base_acc": torch.tensor([offset], dtype=torch.float32)}
        for index, (weight, bias) in enumerate(layers):
            stem = f"layers.{index}" if index == len(layers) - 1 else f"layers.{index}.0"
            state[f"{stem}.weight"] = torch.from_numpy(weight.copy())
            if index < len(layers) - 1:
                state[f"{stem}.bias"] = torch.from_numpy(bias.copy())
        document = {
            MAGIC: VERSION,
            "space": self.space.name,
            "resolutions": list(predictor.encoding.resolutions),
            "provenance": provenance,
            "quality": {name: float(value) for name, value in quality.items()},
            "state_dict": state,
        }
        file = io.BytesIO()
        torch.save(document, file)
        return file.getvalue()


@contextmanager
def _one_thread() -> Iterator[None]:
    """More would wait for one another longer than they work, on layers this small."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _network(features: int, hidden: int) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(
        *(nn.Linear(features, hidden), nn.ReLU()),
        *(nn.Linear(hidden, hidden), nn.ReLU()),
        *(nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, 1, bias=False),
    )


def _train(network: nn.Sequential, features: Tensor, targets: Tensor, steps: int) -> None:
    import torch

    optimizer = torch.optim.Adam(network.parameters(), _RATE, weight_decay=_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        chosen = torch.randint(len(targets), (min(_BATCH, len(targets)),))
        loss = torch.nn.functional.mse_loss(network(features[chosen])[:, 0], targets[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _layers(network: nn.Sequential, scale: float) -> list[Layer]:
    """The layers as arrays, the last one's output times ``scale``."""
    from torch import nn

    linear = [module for module in network if isinstance(module, nn.Linear)]
    arrays = []
    for index, module in enumerate(linear):
        weight = module.weight.detach().numpy().copy()
        if index == len(linear) - 1:
            arrays.append(Layer(weight * np.float32(scale), np.zeros(1, dtype=np.float32)))
        else:
            arrays.append(Layer(weight, module.bias.detach().numpy().copy()))
    return arrays
