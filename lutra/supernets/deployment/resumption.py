"""The file beside an output from which brief training goes on after it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from lutra.errors import CheckpointError, UsageError
from lutra.files import check_output, read_bounded, write_atomically
from lutra.files.kinds import TRAINING, is_there
from lutra.files.locks import Lock
from lutra.supernets.training.state import (
    MAX_BYTES,
    TOO_LARGE,
    Position,
    State,
    hold_output,
    parse_state,
    state_bytes,
)

SAVE_SECONDS = 30.0
_SUFFIX = ".state"


class Resumption:
    """A training's state in ``OUTPUT.state``, for the same command to go on from.

    ``settings`` (plain data) are what a state must have been made with to be taken up: weights,
    images, how it is trained. A context manager: within it the output is this training's alone, and
    is to be written; the state is removed at the end, and kept where that is an exception.
    """

    def __init__(self, output: str | Path, settings: Mapping[str, Any]) -> None:
        self._output = Path(output)
        self.path = self._output.with_name(self._output.name + _SUFFIX)
        self._settings = json.loads(json.dumps(settings))
        self._saved = time.monotonic()
        self._state: State | None = None
        self._held = Lock()

    def __enter__(self) -> Self:
        """Raises `UsageError` for another training's state, `CheckpointError` for a damaged one.

        And `TrainingError` where another process trains into the output.
        """
        with hold_output(self._output) as held:
            check_output(self.path, TRAINING, CheckpointError)
            self._state = self._read()
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            if error is None:
                self.remove()

    @property
    def is_begun(self) -> bool:
        """Whether there is a state to go on from."""
        return self._state is not None

    def _read(self) -> State | None:
        if not is_there(self.path) or not self.path.stat().st_size:
            return None
        data = read_bounded(self.path, MAX_BYTES, TOO_LARGE, CheckpointError)
        state = parse_state(data, str(self.path))
        if state.settings == self._settings:
            return state
        changed = [
            name
            for name, value in self._settings.items()
            if not isinstance(state.settings, Mapping) or state.settings.get(name) != value
        ]
        raise UsageError(
            f"{self.path} is the state of a training that was stopped, of another"
            f" {', '.join(changed) or 'kind'}: give the same again to go on, or remove it to begin"
            " anew"
        )

    def restore(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator
    ) -> tuple[Position, Mapping[str, Any] | None]:
        """Put a training where it was stopped; the generator is as its epoch began.

        Returns where that is, and the generator's state there; (0, None) for a new training.
        """
        state, self._state = self._state, None
        if state is None:
            return Position(), None
        try:
            network.load_state_dict(state.weights)
            optimizer.load_state_dict(dict(state.optimizer or {}))
            (drawn,) = state.history
            rng.bit_generator.state = drawn["epoch"]
            np.random.default_rng().bit_generator.state = drawn["step"]
        except Exception as error:  # whatever a damaged state makes torch and numpy raise
            raise CheckpointError(
                f"{self.path} is damaged: remove it to begin the training anew"
            ) from error
        return state.position, drawn["step"]

    def save(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        position: Position,
        drawn: dict[str, Any],
        *,
        last: bool = False,
    ) -> None:
        """Write a training at a position, where it is time to or it is the ``last``.

        ``drawn`` has the generator's state as the ``epoch`` began and at the ``step``.
        """
        if not last and time.monotonic() - self._saved < SAVE_SECONDS:
            return
        state = State(
            settings=self._settings,
            position=position,
            seconds=0.0,
            history=[drawn],
            weights=network.state_dict(),
            optimizer=optimizer.state_dict(),
        )
        write_atomically(self.path, state_bytes(state), CheckpointError, kind=TRAINING)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """What was trained is in a file of its own now, or cannot go on."""
        self.path.unlink(missing_ok=True)
