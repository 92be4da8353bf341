"""Supernets' weights in files: ours, and those that OFA's authors publish.

A file is a PyTorch archive of ``{"lutra_supernet": 1, "space": NAME, "about": {...},
"state_dict": {...}}``. Published files are ``{"state_dict": {...}}`` and do not name their space.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lutra.errors import CheckpointError
from lutra.files import read_bounded, write_atomically
from lutra.files.kinds import MODELS
from lutra.files.torch_file import Tensor, parameters_in, read_torch_file
from lutra.spaces.base import SearchSpace
from lutra.supernets.supernet import Supernet

MAGIC = "lutra_supernet"
VERSION = 1
MAX_FILE_BYTES = 1 << 30  # ResNet50D's weights have 193 MB
_TOO_LARGE = f"is larger than {MAX_FILE_BYTES >> 20} MiB: too large for a supernet's checkpoint"
_WHAT = "a supernet's checkpoint"
_NAMED = 3


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name as a file has them, the space that it names, what it says of its making."""

    source: str
    digest: str
    space: str | None
    about: Mapping[str, Any]
    tensors: Mapping[str, object] = field(repr=False)


def save_supernet(
    supernet: Supernet,
    path: Path,
    about: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a supernet's weights as ``dtype``; ``about`` (plain data) says how they came to be.

    Raises `CheckpointError`; an older checkpoint of that name is there until the new one is whole.
    """
    tensors = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in supernet.state_dict().items()
    }
    document = {MAGIC: VERSION, "space": supernet.space.name, "about": dict(about)}
    buffer = io.BytesIO()
    torch.save({**document, "state_dict": tensors}, buffer)
    write_atomically(path, buffer.getvalue(), CheckpointError, kind=MODELS["torch"])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint of anyone's; nothing in it is executed. Raises `CheckpointError`."""
    path = Path(path)
    data = read_bounded(path, MAX_FILE_BYTES, _TOO_LARGE, CheckpointError)
    return parse_checkpoint(data, str(path))


def parse_checkpoint(data: bytes, source: str) -> Checkpoint:
    """Like `read_checkpoint`, of a file's bytes; ``source`` names it in messages."""
    state = read_torch_file(data, source, _WHAT, CheckpointError)
    space, about, version = state.get("space"), state.get("about"), state.get(MAGIC)
    if version not in (None, VERSION):
        raise CheckpointError(f"{source} is of version {version!s:.20}; this lutra reads {VERSION}")
    return Checkpoint(
        source,
        hashlib.sha256(data).hexdigest(),
        space if isinstance(space, str) else None,
        about if isinstance(about, dict) else {},
        parameters_in(state),
    )


def load_supernet(
    checkpoint: str | Path | Checkpoint, space: str | SearchSpace | None = None, **options: Any
) -> Supernet:
    """A supernet with the weights of a checkpoint, ready to evaluate.

    ``space`` is needed for checkpoints that name none, and must be theirs for those that do;
    ``options`` are `Supernet`'s. Raises `CheckpointError` for a file that is not whole or another
    network's, `UsageError` for an unknown space.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint)
    wanted = space.name if isinstance(space, SearchSpace) else space
    if wanted is None and checkpoint.space is None:
        raise CheckpointError(f"{checkpoint.source} does not name its space: name it")
    if None not in (wanted, checkpoint.space) and wanted != checkpoint.space:
        raise CheckpointError(
            f"{checkpoint.source} is a supernet of {checkpoint.space}, not of {wanted}"
        )
    supernet = Supernet(space or checkpoint.space or "", **options)
    load_weights(supernet, checkpoint)
    return supernet.eval()


@torch.no_grad()
def load_weights(supernet: Supernet, checkpoint: Checkpoint) -> None:
    """Fill a supernet; raises `CheckpointError` for missing or foreign names, or other shapes."""
    own = supernet.state_dict()
    given = {_own_name(name, own): tensor for name, tensor in checkpoint.tensors.items()}
    counters = [name for name in own if name.endswith("num_batches_tracked")]
    missing = [name for name in own if name not in given and name not in counters]
    foreign = [name for name in given if name not in own]
    if missing or foreign:
        which, names = ("lacks", missing) if missing else ("has also", foreign)
        listed = ", ".join(str(name)[:80] for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise CheckpointError(
            f"{checkpoint.source} is no supernet of {supernet.space.name}: it {which}"
            f" {listed}{more}"
        )
    for name, tensor in given.items():
        own[name].copy_(_array(tensor, tuple(own[name].shape), name, checkpoint, supernet))


def _array(
    tensor: object,
    shape: tuple[int, ...],
    name: str,
    checkpoint: Checkpoint,
    supernet: Supernet,
) -> torch.Tensor:
    if not isinstance(tensor, Tensor):
        raise CheckpointError(f"{checkpoint.source}: {name} is not an array of numbers")
    if tensor.shape != shape:
        raise CheckpointError(
            f"{checkpoint.source}: {name} has the shape {tensor.shape!s:.60} where"
            f" {supernet.space.name} has {shape}: a checkpoint of another width, class count or"
            " number of channels?"
        )
    try:
        array = tensor.array()
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.source}: {name} is damaged: {error}") from error
    if not np.all(np.isfinite(array)):
        raise CheckpointError(f"{checkpoint.source}: {name} holds values that are not finite")
    return torch.from_numpy(array)


# How older versions of OFA's code, and plain networks of the same family, spell a name: each in
# turn is tried until one of ours comes out.
_SPELLINGS = (
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
    (".linear.", ".linear.linear."),
    ("bn.", "bn.bn."),
    ("conv.weight", "conv.conv.weight"),
)


def _own_name(name: str, own: Mapping[str, object]) -> str:
    """Our name for what a file calls so; the file's where there is none."""
    name = name.replace(".mobile_inverted_conv.", ".conv.")
    spelled = (name.replace(theirs, ours) for theirs, ours in _SPELLINGS if theirs in name)
    return next((other for other in (name, *spelled) if other in own), name)
