"""What a training says of itself: to its caller, and to TensorBoard's event files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lutra.errors import UsageError
from lutra.text import why

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

OnStep = Callable[[int, int, float], None]
OnNote = Callable[[str], None]


class Clock:
    """Tells how long the rest will take, from what this run's steps took.

    Steps are weighed by the networks that they train.
    """

    def __init__(self, done: float, total: float) -> None:
        self._begun = time.monotonic()
        self._first = self._done = done
        self._total = total

    def advance(self, work: float) -> None:
        """So much more was done."""
        self._done += work

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._begun

    def eta_seconds(self) -> float:
        """NaN before anything was done."""
        if self._done == self._first:
            return float("nan")
        left = max(self._total - self._done, 0.0)
        return self.seconds / (self._done - self._first) * left


class EventLog:
    """Event files that TensorBoard shows; none without a folder."""

    def __init__(self, folder: Path | None, first_step: int) -> None:
        """What an earlier run logged from ``first_step`` on is dropped.

        Raises `UsageError` where the package is missing or the folder cannot be written.
        """
        self._writer = None if folder is None else _writer(folder, first_step)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Note numbers by name at a step of the whole training."""
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is not yet in the file."""
        if self._writer is not None:
            self._writer.close()


def _writer(folder: Path, first_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"event files need the package tensorboard: pip install 'lutra[tensorboard]'"
            f" ({why(error)})"
        ) from error
    try:
        return SummaryWriter(folder, purge_step=first_step)
    except OSError as error:
        raise UsageError(f"cannot write events into {folder}: {error.strerror}") from error
