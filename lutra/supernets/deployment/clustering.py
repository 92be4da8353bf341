"""A network's weights as few values per layer, so that the files made of it pack small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from lutra.errors import CheckpointError, UsageError
from lutra.files import check_output
from lutra.files.kinds import NETWORK
from lutra.spaces import Architecture, get_space
from lutra.supernets.checkpoints.checkpoint import read_checkpoint
from lutra.supernets.checkpoints.network import load_network, save_network
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.deployment.shared_values import SharedValues, bits_per_weight
from lutra.supernets.deployment.trained import augmentation_of
from lutra.supernets.evaluation import OnStep, top1, tune_statistics
from lutra.supernets.subnet import Subnet

VALUES = 15
BIT_PRICE = 0.2
FEWEST_VALUES, MOST_VALUES = 2, 256
_FEWEST_WEIGHTS = 1000  # of a layer; what smaller ones take is next to nothing


@dataclass(frozen=True)
class Clustered:
    """A network file of few values per layer, and what that cost.

    ``bits_per_weight`` is the entropy of the layers that share values, in an 8-bit file; top-1 is
    in percent of the validation images, in fp32.
    """

    path: Path
    architecture: Architecture
    values: int
    bits_per_weight: float
    top1_before: float
    top1: float

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "architecture": self.architecture.to_json(),
            "values": self.values,
            "bits_per_weight": self.bits_per_weight,
            "top1_before": self.top1_before,
            "top1": self.top1,
        }


def cluster(
    checkpoint: str | Path,
    data: str | Path,
    path: str | Path,
    *,
    architecture: Architecture | None = None,
    values: int = VALUES,
    bit_price: float = BIT_PRICE,
    epochs: int = 1,
    seed: int = 0,
    on_step: OnStep = lambda done, expected: None,
) -> Clustered:
    """Write a network file whose layers have at most ``values`` values each, trained to bear it.

    An int8 file that `export` makes of it has as many integers per layer, and `pack` makes it
    small. ``checkpoint`` is a network file, or a supernet's and ``architecture`` one of its
    networks; ``data`` a folder of images, on whose training part the values are trained for
    ``epochs`` and statistics estimated. ``bit_price`` is what a bit of a weight's code is worth in
    squared error, relative to the variance of the layer's weights: more of it makes smaller files
    and larger errors (Chou, Lookabaugh and Gray, 1989). ``on_step`` is told steps of training, done
    and expected. Stopped, the same call goes on (`fine_tune_network`).

    Raises `UsageError` for values outside 2..256 or negative prices and epochs, `CheckpointError`
    for weights that cannot be used or written, `DataError` for images, `TrainingError`.

    >>> from lutra.supernets.checkpoints.shipped import shipped_checkpoint
    >>> space = get_space("ofa-mbv3-fashion")
    >>> smallest = space.decode(space.choice_counts * 0)
    >>> weights = shipped_checkpoint(space.name)
    >>> cluster(weights, "images", "n.pth", architecture=smallest, epochs=0).bits_per_weight < 4
    True
    """
    _require_sound(values, bit_price, epochs)
    check_output(Path(path), NETWORK, CheckpointError)
    known = read_checkpoint(checkpoint)
    found, subnet = load_network(known, architecture)
    augmentation = augmentation_of(known)
    train, held = load_images(data, "train", augmentation), load_images(data, "validation")
    train.require_fit(get_space(found.space))
    about: dict[str, Any] = {
        "values": values,
        "bit_price": bit_price,
        "epochs": epochs,
        "seed": seed,
        "images": train.source,
        "augmentation": augmentation,
        "made_of": known.digest,
    }
    with Resumption(path, {"network": found.key, **about}) as resumption:
        tune_statistics(subnet, train, found.r)
        before = top1(subnet, held, found.r).percent
        for layer in _large_layers(subnet):
            shared = SharedValues(layer.weight.detach(), values, bit_price)
            parametrize.register_parametrization(layer, "weight", shared)
        if epochs:
            fine_tune(
                subnet, train, found.r, epochs, seed=seed, resumption=resumption, on_step=on_step
            )
        for layer in _large_layers(subnet):
            parametrize.remove_parametrizations(layer, "weight")
        tune_statistics(subnet, train, found.r)
        after = top1(subnet, held, found.r).percent
        bits = bits_per_weight(layer.weight.detach() for layer in _large_layers(subnet))
        save_network(subnet, found, Path(path), {**about, "top1_percent": after})
    return Clustered(Path(path), found, values, bits, before, after)


def _require_sound(values: int, bit_price: float, epochs: int) -> None:
    if not FEWEST_VALUES <= values <= MOST_VALUES:
        raise UsageError(
            f"{values} values per layer: {FEWEST_VALUES} to {MOST_VALUES} can be shared"
        )
    if not 0 <= bit_price < float("inf"):
        raise UsageError(f"a bit's price of {bit_price:g}: 0 or a little more, such as {BIT_PRICE}")
    if epochs < 0:
        raise UsageError(f"{epochs} epochs of fine-tuning: at least 0")


def _large_layers(subnet: Subnet) -> Iterator[nn.Conv2d | nn.Linear]:
    for layer in subnet.layers.values():
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        if layer.weight.numel() >= _FEWEST_WEIGHTS:
            yield layer
