"""How the range of a feature map follows what batches hold while a network is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from statistics import fmean

from lutra.emitters.quantization import Range
from lutra.errors import UsageError

SHARE = 0.01  # of a batch in a moving average, torch's own observers' default
WINDOW = 100  # batches


class Observer(ABC):
    """A range that is shown the least and greatest value of one batch after the other."""

    def __init__(self, start: Range) -> None:
        self.range = start

    @abstractmethod
    def observe(self, batch: Range) -> None:
        """Take a batch's range in."""

    def state(self) -> list[Range]:
        """What the next range follows from, the range itself first."""
        return [self.range]

    def restore(self, state: list[Range]) -> None:
        """Go on from another's `state`."""
        self.range = state[0]


class MovingAverage(Observer):
    """Each batch counts for a hundredth, those before it for the rest."""

    def observe(self, batch: Range) -> None:
        """Go a hundredth of the way."""
        low, high = (old + SHARE * (new - old) for old, new in zip(self.range, batch, strict=True))
        self.range = (low, high)


class Window(Observer):
    """The last hundred batches; the range that it began with is one until then."""

    def __init__(self, start: Range) -> None:
        super().__init__(start)
        self.batches = deque([start], maxlen=WINDOW)

    def state(self) -> list[Range]:
        """The range, and the batches that it is of."""
        return [self.range, *self.batches]

    def restore(self, state: list[Range]) -> None:
        """Go on from another's `state`."""
        super().restore(state)
        self.batches = deque(state[1:], maxlen=WINDOW)


class WindowMean(Window):
    """The mean of the least, and of the greatest values."""

    def observe(self, batch: Range) -> None:
        """Take a batch's range in, and drop the one of a hundred batches ago."""
        self.batches.append(batch)
        lows, highs = zip(*self.batches, strict=True)
        self.range = (fmean(lows), fmean(highs))


class WindowMax(Window):
    """The least of the least, and the greatest of the greatest values."""

    def observe(self, batch: Range) -> None:
        """Take a batch's range in, and drop the one of a hundred batches ago."""
        self.batches.append(batch)
        lows, highs = zip(*self.batches, strict=True)
        self.range = (min(lows), max(highs))


OBSERVERS: dict[str, type[Observer]] = {
    "moving": MovingAverage,
    "window-mean": WindowMean,
    "window-max": WindowMax,
}


def observer_of(name: str) -> type[Observer]:
    """An observer by its name; raises `UsageError`."""
    if name not in OBSERVERS:
        raise UsageError(f"no observer is called '{name}'; known: {', '.join(OBSERVERS)}")
    return OBSERVERS[name]
