"""A user's own torch module as a network file, which every command takes that takes weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lutra.errors import CheckpointError, ModelError, UsageError
from lutra.files import check_output
from lutra.files.kinds import NETWORK, is_there
from lutra.spaces.architecture import Architecture
from lutra.spaces.graph_widths import GraphWidthSpace
from lutra.spaces.registry import remember_space
from lutra.supernets.checkpoints.checkpoint import Checkpoint, read_checkpoint
from lutra.supernets.checkpoints.network import load_network, save_network
from lutra.supernets.data.base import AUGMENTATIONS, Augmentation
from lutra.supernets.deployment.tracing import traced
from lutra.supernets.subnet import Subnet


def save_module(
    module: nn.Module,
    path: str | Path,
    *,
    image_shape: tuple[int, int, int],
    augmentation: Augmentation = "none",
) -> Architecture:
    """Write a trained torch module as a network file; returns it at full width.

    ``image_shape`` is (channels, height, width) of the square images that it takes; which layers it
    may have, `traced` says. The file holds its graph and its weights, no code, and is the
    ``checkpoint`` of `export`, `fine_tune_network`, `quantize`, pruning and the commands.
    ``augmentation`` is what images were varied by in its training, and will be in fine-tuning.

    Raises `ModelError` naming a layer that cannot be followed or values that are not finite,
    `UsageError` where no layer can be narrowed, for an unknown augmentation, or where a file that
    is no network's would be lost, `CheckpointError`.

    >>> from torch import nn
    >>> layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    >>> module = nn.Sequential(*layers, nn.Linear(8, 10))
    >>> save_module(module, "module.pth", image_shape=(1, 28, 28))["out"]
    (8,)
    >>> export("module.pth", "module.onnx")["weights"][:19]
    'trained: module.pth'
    """
    if augmentation not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise UsageError(f"unknown augmentation '{augmentation}'; known: {known}")
    check_output(Path(path), NETWORK, CheckpointError)
    about = {"module": type(module).__name__, "augmentation": augmentation}
    return write_module(traced(module, image_shape), Path(path), about)


def write_module(network: Subnet, path: Path, about: Mapping[str, Any]) -> Architecture:
    """Write a module that was traced, as `save_module` does."""
    for name, tensor in network.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(
                f"the module's {name.replace('/', '.')} holds values that are not finite"
            )
    space = GraphWidthSpace(network.graph)
    remember_space(space)
    save_network(network, space.full, path, about)
    return space.full


def keep_module(network: Subnet, path: Path, about: Mapping[str, Any]) -> Checkpoint:
    """The module's network file, written where there is none.

    Raises `UsageError` for one of another module, beside which its measurements are.
    """
    if not is_there(path):
        write_module(network, path, about)
    stored = read_checkpoint(path)
    _, other = load_network(stored)
    ours, theirs = network.state_dict(), other.state_dict()
    same = other.graph == network.graph and all(
        torch.equal(ours[name], theirs[name]) for name in ours if "num_batches" not in name
    )
    if not same:
        raise UsageError(
            f"{path} is another module, whose measurements are beside it: name another folder"
        )
    return stored
