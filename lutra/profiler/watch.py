"""What goes along with every measurement: its budget, whom it tells, and how it pauses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from lutra.tables import Target


@dataclass(frozen=True)
class Progress:
    """How far a measurement is, in visits; ``seconds`` have gone by.

    ``expected`` is how many it will take as far as is known, or as many as the budget has time for:
    it grows while results are noisy.

    >>> Progress(done=30, expected=60, seconds=15.0).eta_seconds
    15.0
    """

    done: int
    expected: int
    seconds: float

    @property
    def eta_seconds(self) -> float:
        """Time left at the pace so far; NaN before the first visit."""
        return self.seconds / self.done * (self.expected - self.done) if self.done else math.nan


@dataclass(frozen=True)
class Watch:
    """Accompanies `lutra.profile`, `calibrate`, `validate` and `verify`.

    ``budget_seconds`` ends a measurement after that long; the same call goes on where it stopped.
    ``on_ready`` is told the target once the device and the table are open, ``on_progress`` how far
    it is after each visit, ``on_note`` what disturbs it (one line each), and ``sleep`` waits
    (seconds) while the device cools. What one of them raises ends the measurement: whatever was
    measured before stays in the table.

    >>> def show(progress: Progress) -> None:
    ...     print(f"{progress.done} of {progress.expected} visits", end=chr(13))
    >>> watch = Watch(budget_seconds=600, on_progress=show)
    """

    budget_seconds: float = math.inf
    on_ready: Callable[[Target], None] = lambda _: None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_note: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep


UNWATCHED = Watch()
