"""The file from which a training goes on: everything that its next step depends on."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lutra.errors import CheckpointError, TrainingError
from lutra.files import locks, read_bounded, write_atomically
from lutra.files.kinds import TRAINING

STATE_FILE = "state.pth"
_MAGIC = "lutra_training"
_VERSION = 1
MAX_BYTES = 4 << 30
TOO_LARGE = f"is larger than {MAX_BYTES >> 30} GiB: too large for the state of a training"


def hold_output(path: Path) -> locks.Lock:
    """A lock on the file or folder that a training makes.

    Raises `TrainingError` that says who holds it. docs/decisions.md: Claims are sockets
    """
    lock = locks.take(f"training {os.path.realpath(path)}")
    if isinstance(lock, str):
        raise TrainingError(f"{path} is being trained into by {lock}")
    return lock


@dataclass
class Position:
    """Where a training is: phase and epoch within it, steps of that epoch done, all from 0.

    ``loss_sum`` is over those steps.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0


@dataclass
class State:
    """A training at a step. ``history`` has a record per epoch, ``seconds`` is time spent.

    ``result`` is what a training that is finished came to; it has no optimizer any more.
    """

    settings: Mapping[str, Any]
    position: Position
    seconds: float
    history: list[dict[str, Any]]
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None = None
    scaler: Mapping[str, Any] | None = None
    teacher: Mapping[str, Tensor] | None = None
    result: dict[str, Any] | None = None


def state_bytes(state: State) -> bytes:
    """A state as a file has it."""
    buffer = io.BytesIO()
    document = {name: getattr(state, name) for name in state.__dataclass_fields__}
    torch.save({_MAGIC: _VERSION, **document, "position": asdict(state.position)}, buffer)
    return buffer.getvalue()


def write_state(state: State, folder: Path) -> None:
    """Replace a folder's state by this one, whole or not at all; raises `CheckpointError`."""
    path = folder / STATE_FILE
    write_atomically(path, state_bytes(state), CheckpointError, kind=TRAINING)


def read_state_bytes(folder: Path) -> bytes | None:
    """A folder's state as it is in the file; None where there is none."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    return read_bounded(path, MAX_BYTES, TOO_LARGE, CheckpointError)


def parse_state(data: bytes, source: str) -> State:
    """The state in a file's bytes; nothing in them is executed. Raises `CheckpointError`."""
    try:
        document = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises anything
        raise CheckpointError(
            f"{source} is no state of a training, or it is damaged: remove it to begin anew"
        ) from error
    if not isinstance(document, dict) or document.pop(_MAGIC, None) != _VERSION:
        raise CheckpointError(f"{source} is no state of a training that this lutra can read")
    try:
        document["position"] = Position(**document["position"])
        state = State(**document)
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{source} lacks parts of a training's state") from error
    return state
