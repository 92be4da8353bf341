"""Weights in files: of supernets, ours and those that OFA's authors publish, and of one network.

A file is a PyTorch archive of ``{"lutra_supernet": 1, "space": NAME, "about": {...},
"state_dict": {...}}``. Published files are ``{"state_dict": {...}}`` and do not name their space. A
network's has ``{"lutra_network": 1, "architecture": {...}, ...}`` instead (`network`).
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lutra.errors import CheckpointError, ResultError, UsageError
from lutra.files import read_bounded, write_atomically
from lutra.files.kinds import SUPERNET, FileKind
from lutra.files.torch_file import Tensor, parameters_in, read_torch_file
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import SearchSpace
from lutra.spaces.graph_widths import GraphWidthSpace, graph_space, narrower_forms
from lutra.spaces.registry import get_space, parse_architecture
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import with_memory

MAGIC = "lutra_supernet"
NETWORK = "lutra_network"
VERSION = 1
MAX_FILE_BYTES = 1 << 30  # ResNet50D's weights have 193 MB
_TOO_LARGE = f"is larger than {MAX_FILE_BYTES >> 20} MiB: too large for a supernet's checkpoint"
_WHAT = "trained weights (a supernet's file, or a network's)"
_OTHERS = {  # by the first key
    "lutra_training": f"the state of a training, not {_WHAT}: the command that wrote it goes on"
    " from it",
    "lutra_torch": f"a torch model, not {_WHAT}: name the file that it was exported from",
}
_NAMED = 3
_NAMED_SIZES = 8  # of a shape in an error
_NAMED_LETTERS = 80
_LARGEST_NAMED_VERSION = 999


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name as a file has them, the space that it names, what it says of its making.

    ``architecture`` is that of one network's weights, None where they are a supernet's. ``about``
    may be anything, nested without end if need be: it is not to be printed whole. ``ranges`` is
    what a file of one network trained in int8 holds of them (`network.trained_ranges` reads it),
    ``norm_epsilons`` what a module's batch normalisations add to variances.
    """

    source: str
    digest: str
    space: str | None
    about: Mapping[str, Any] = field(repr=False)
    tensors: Mapping[str, object] = field(repr=False)
    architecture: Architecture | None = None
    ranges: object = field(default=None, repr=False)
    norm_epsilons: object = field(default=None, repr=False)


def save_supernet(
    supernet: Supernet,
    path: Path,
    about: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a supernet's weights as ``dtype``; ``about`` (plain data) says how they came to be.

    Raises `CheckpointError`; an older checkpoint of that name is there until the new one is whole.
    """
    document = {MAGIC: VERSION, "space": supernet.space.name, "about": dict(about)}
    write_weights(supernet, document, path, dtype)


def write_weights(
    module: nn.Module,
    document: Mapping[str, Any],
    path: Path,
    dtype: torch.dtype = torch.float32,
    kind: FileKind = SUPERNET,
) -> None:
    """Write weights as ``dtype``, and what else a file says. Raises `CheckpointError`.

    And `UsageError` where a file that is no ``kind`` would be lost.
    """
    tensors = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in module.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save({**document, "state_dict": tensors}, buffer)
    write_atomically(path, buffer.getvalue(), CheckpointError, kind=kind)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint of anyone's; nothing in it is executed. Raises `CheckpointError`.

    The spaces of a module's narrower forms are known by their names from now on.
    """
    path = Path(path)
    data = read_bounded(path, MAX_FILE_BYTES, _TOO_LARGE, CheckpointError)
    return parse_checkpoint(data, str(path))


def parse_checkpoint(data: bytes, source: str) -> Checkpoint:
    """Like `read_checkpoint`, of a file's bytes; ``source`` names it in messages."""
    state = read_torch_file(data, source, _WHAT, CheckpointError)
    for key, told in _OTHERS.items():
        if key in state:
            raise CheckpointError(f"{source} is {told}")
    space, about = state.get("space"), state.get("about")
    _require_version(state.get(MAGIC), source)
    _require_version(state.get(NETWORK), source)
    return Checkpoint(
        source,
        hashlib.sha256(data).hexdigest(),
        space if isinstance(space, str) else None,
        about if isinstance(about, dict) else {},
        parameters_in(state),
        _architecture(state, source) if NETWORK in state else None,
        state.get("ranges") if NETWORK in state else None,
        state.get("norm_epsilons") if NETWORK in state else None,
    )


def _architecture(state: Mapping[str, object], source: str) -> Architecture:
    try:
        space = graph_space(state["graph"]) if "graph" in state else None
        architecture = parse_architecture(state.get("architecture"), space)
        get_space(architecture.space).encode(architecture)
        of_module = isinstance(get_space(architecture.space), GraphWidthSpace)
        if of_module and space is None:
            raise CheckpointError(f"{source} lacks the graph of its module")
        if of_module:
            narrower_forms(architecture)
        return architecture
    except (ResultError, UsageError) as error:
        raise CheckpointError(f"{source} names no network of a space: {error}") from error


def _require_version(version: object, source: str) -> None:
    if version is None or (type(version) is int and version == VERSION):
        return
    named = "another version"  # what is no number may take forever to print
    if type(version) is int and 0 <= version <= _LARGEST_NAMED_VERSION:
        named = f"version {version}"
    raise CheckpointError(f"{source} is of {named}; this lutra reads {VERSION}")


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
    if checkpoint.architecture is not None:
        raise CheckpointError(
            f"{checkpoint.source} holds one network; a supernet is needed (`lutra supernet train`)"
        )
    wanted = space.name if isinstance(space, SearchSpace) else space
    if wanted is None and checkpoint.space is None:
        raise CheckpointError(f"{checkpoint.source} does not name its space: name it")
    if None not in (wanted, checkpoint.space) and wanted != checkpoint.space:
        raise CheckpointError(
            f"{checkpoint.source} is a supernet of {str(checkpoint.space)[:_NAMED_LETTERS]},"
            f" not of {wanted}"
        )
    with torch.device("meta"):  # no memory is taken for what the file does not hold
        supernet = Supernet(space or checkpoint.space or "", **options)
    load_weights(supernet, checkpoint, f"supernet of {supernet.space.name}")
    return supernet.eval()


@torch.no_grad()
def load_weights(module: nn.Module, checkpoint: Checkpoint, what: str) -> None:
    """Give a module on the device "meta" memory, and fill it; ``what`` it is, messages say.

    Raises `CheckpointError` for missing or foreign names, or other shapes.
    """
    own = module.state_dict()
    given = {_own_name(name, own): tensor for name, tensor in checkpoint.tensors.items()}
    _require_names(given, own, checkpoint, what)
    tensors = {
        name: _require_shape(tensor, tuple(own[name].shape), name, checkpoint, what)
        for name, tensor in given.items()
    }
    _require_numbers(tensors, checkpoint)
    own = with_memory(module, "cpu").state_dict()
    for name in own.keys() - tensors.keys():
        own[name].zero_()  # batches that batch normalisations have seen
    for name, tensor in tensors.items():
        own[name].copy_(_array(tensor, name, checkpoint))


def _require_names(
    given: Mapping[str, object],
    own: Mapping[str, object],
    checkpoint: Checkpoint,
    what: str,
) -> None:
    counters = [name for name in own if name.endswith("num_batches_tracked")]
    missing = [name for name in own if name not in given and name not in counters]
    foreign = [name for name in given if name not in own]
    if missing or foreign:
        which, names = ("lacks", missing) if missing else ("has also", foreign)
        listed = ", ".join(name[:_NAMED_LETTERS] for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise CheckpointError(f"{checkpoint.source} is no {what}: it {which} {listed}{more}")


def _require_shape(
    tensor: object,
    shape: tuple[int, ...],
    name: str,
    checkpoint: Checkpoint,
    what: str,
) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise CheckpointError(f"{checkpoint.source}: {name} is not an array of numbers")
    if tensor.shape != shape:
        raise CheckpointError(
            f"{checkpoint.source}: {name} has the shape {_shape_text(tensor.shape)} where a {what}"
            f" has {shape}: a checkpoint of another width, class count or"
            " number of channels?"
        )
    return tensor


def _shape_text(shape: tuple[int, ...]) -> str:
    """Like ``str``, of one that may have a million sizes."""
    return str(shape) if len(shape) <= _NAMED_SIZES else f"{str(shape[:_NAMED_SIZES])[:-1]}, ...)"


def _require_numbers(tensors: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Raise unless the file holds a number for each weight: arrays may repeat a few of them."""
    stored = {id(tensor.storage): tensor.storage.count for tensor in tensors.values()}
    needed = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if sum(stored.values()) < needed:
        raise CheckpointError(
            f"{checkpoint.source} is damaged: {needed} weights of {sum(stored.values())} numbers"
        )


def _array(tensor: Tensor, name: str, checkpoint: Checkpoint) -> torch.Tensor:
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
