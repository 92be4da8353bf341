"""What was measured: visits, the measurement they add up to, and failures; what others measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Category = Literal["op", "network", "reference"]
Status = Literal["stable", "unstable", "partial", "failed", "imported", "filled"]
# Why a network was measured: its role in the table.
CALIBRATE, VALIDATE, VERIFY, MODEL, ANCHOR = "calibrate", "validate", "verify", "model", "anchor"
# The flag of a visit that is to give way to later ones, when those are enough.
# docs/decisions.md: Measured again
REPLACED = "replaced"
SUPERSEDED = "superseded"  # of a visit that gave way to some that give way themselves now
Bound = Literal["launch", "device"]
# Device times come from replays, which leave out some of the pause between kernels, and both are
# measured to 1 or 2 %: an op within 10 % of its device time says nothing of its host.
LAUNCH_BOUND = 1.1
# No device takes less or more: sums and ratios of what lies between stay finite.
LEAST_MS, MOST_MS = 1e-9, 1e12


Round = tuple[int, int, int]
"""A round of visits: the number of its run, of the process and its own."""

Steady = tuple[Round, float]
"""The round of a visit that nothing disturbed, and its ``low_ms``."""


@dataclass(frozen=True)
class Visit:
    """One stay at a workload: a block of timing within one round and process.

    ``low_ms`` is the 20th percentile of the visit's blocks: it repeats twice as well as the
    median on machines with bursts of other load. The latencies are as measured. Visits of one
    ``run`` share its rounds, and with them the machine's state. ``drift`` is how much slower than
    its baseline the machine was (0.03: 3 %), ``flags`` what was wrong. ``clock_mhz`` is
    the device's clock during the visit. ``device_ms`` is what the device alone needed, where the
    host hands it work piece by piece and may be the slower of the two.

    What the device's operating system did meanwhile, where it tells: the share of the time in which
    another process had the core (``waited_share``) or the host another virtual machine
    (``stolen_share``), ``preemptions`` (involuntary context switches), ``page_faults``, and how
    many cores other processes kept busy (``others_cores``).
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
    clock_mhz: float | None = None
    device_ms: float | None = None
    waited_share: float | None = None
    stolen_share: float | None = None
    preemptions: int | None = None
    page_faults: int | None = None
    others_cores: float | None = None
    run: int = 0

    @property
    def place(self) -> Round:
        """The round that it belongs to."""
        return self.run, self.process, self.round


@dataclass(frozen=True)
class Measurement:
    """The latency of a workload in ms with its 95 % interval, and what it rests on.

    It rests on all visits of an op or network, on the latest 200 of a reference. ``clock_mhz`` and
    ``device_ms`` are medians over them, ``drift`` is the largest (0.03: 3 % slower).
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
    clock_mhz: float | None = None
    device_ms: float | None = None

    @property
    def half_width(self) -> float:
        """Half the 95 % interval relative to the latency (0.02: 2 %)."""
        return (self.ci_high_ms - self.ci_low_ms) / 2 / self.latency_ms

    @property
    def bound(self) -> Bound | None:
        """What the latency is made of: the host's launches, or the device's own work.

        None where the device's share was not measured.
        """
        if self.device_ms is None:
            return None
        return "launch" if self.latency_ms > LAUNCH_BOUND * self.device_ms else "device"


def is_architecture(key: str) -> bool:
    """Whether a workload's key is that of a space's whole network, which is JSON."""
    return key.startswith("{")


@dataclass(frozen=True)
class Failure:
    """A workload that could not be measured: a kind and a message, never a number."""

    kind: str
    message: str
    transient: bool
    attempts: int


@dataclass(frozen=True)
class Imported:
    """An op's latency in ms from a file of others, for networks of one ``resolution`` (pixels).

    How sure it is, is not known: ``runs`` and their standard deviation ``std_ms`` are what the
    file says, where it does. ``entry`` is its own key, ``file`` its name, ``sha256`` its digest.
    ``latency_ms`` is 0 for an op that the file counts within another entry or not at all.
    """

    resolution: int
    latency_ms: float
    entry: str
    file: str
    sha256: str
    runs: int | None = None
    std_ms: float | None = None


FILLED_REACH = 1.96  # standard deviations of a normal distribution that hold 95 %


@dataclass(frozen=True)
class Filled:
    """An op's latency in ms that was not measured but told from ``rows`` others, with the interval
    that 95 % of such ops are in.

    The rows are ops like it, or whole networks in a table of networks. ``high_ms`` is
    `FILLED_REACH` standard deviations above; ``low_ms`` may be cut off.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    rows: int

    @property
    def deviation_ms(self) -> float:
        """The standard deviation of what such ops take."""
        return (self.high_ms - self.latency_ms) / FILLED_REACH


@dataclass(frozen=True)
class Row:
    """One workload of a table: its measurement or its failure, or what was imported.

    It has both where it is ``partial`` and failed the last time: the failure says why its visits
    are too few, or why those of before still stand.
    ``nodes`` counts the model's operators and those that the delegate took, where known. What was
    imported is one row for each resolution.
    """

    category: Category
    key: str
    measurement: Measurement | None
    failure: Failure | None
    nodes: tuple[int, int] | None = None
    imported: Imported | None = None
    filled: Filled | None = None

    @property
    def status(self) -> Status:
        """``failed`` where there is no measurement, and nothing was imported or filled in."""
        if self.imported is not None:
            return "imported"
        if self.filled is not None and self.measurement is None:
            return "filled"
        return "failed" if self.measurement is None else self.measurement.status
