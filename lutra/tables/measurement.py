"""What was measured: visits, the measurement they add up to, and failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Category = Literal["op", "network", "reference"]
Status = Literal["stable", "unstable", "partial", "failed"]


@dataclass(frozen=True)
class Visit:
    """One stay at a subject: a block of timing within one round and process.

    ``low_ms`` is the 20th percentile of the visit's blocks: it repeats twice as well as the
    median on machines with bursts of other load. ``reference_ms`` is what the references took in
    turns with it, where the session pairs; the latencies are as measured, not corrected. ``drift``
    is how much slower than its baseline the machine was (0.03: 3 %), ``flags`` what was wrong.
    """

    round: int
    process: int
    low_ms: float
    median_ms: float
    minimum_ms: float
    blocks: int
    runs_per_block: int
    timed_seconds: float
    drift: float
    flags: tuple[str, ...] = ()
    reference_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """The value of a subject with its 95 % interval, and what it rests on.

    All of an op's or network's visits; a reference's latest 200.
    """

    latency_ms: float
    ci_low_ms: float
    ci_high_ms: float
    median_ms: float
    minimum_ms: float
    rounds: int
    processes: int
    drift: float
    flags: tuple[str, ...]
    status: Status

    @property
    def half_width(self) -> float:
        """Half the 95 % interval relative to the value."""
        return (self.ci_high_ms - self.ci_low_ms) / 2 / self.latency_ms


@dataclass(frozen=True)
class Failure:
    """A subject that could not be measured: a kind and a message, never a number."""

    kind: str
    message: str
    transient: bool
    attempts: int


@dataclass(frozen=True)
class Row:
    """One subject of a table: its measurement or its failure, never both.

    ``nodes`` counts the model's operators and those that the delegate took, where known.
    """

    category: Category
    key: str
    measurement: Measurement | None
    failure: Failure | None
    nodes: tuple[int, int] | None = None

    @property
    def status(self) -> Status:
        """``failed`` where there is no measurement."""
        return "failed" if self.measurement is None else self.measurement.status
