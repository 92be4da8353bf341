"""The drift gate: references tell when the machine was slower than it usually is.

A device that tells its clock is judged by that too, and ``throttled`` is what it says itself.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Generic, TypeVar

from lutra.tables import LatencyTable, Visit

WorkloadT = TypeVar("WorkloadT")

CLOCK_LIMIT = 0.03  # of a card that holds its clock, readings differ by one step of 0.8 %
# A clock is compared with the median, not the best: a cold card boosts above what it can hold.
_CLOCKS_KEPT = 20
BASELINE_QUANTILE = 0.1
_KNOWN_WEIGHT = 100  # a baseline handed in counts as this many visits


class DriftGate:
    """Judges reference visits against the low quantile of all that were seen in the run."""

    def __init__(
        self,
        limit: float,
        seen: Mapping[str, Sequence[float]] | None = None,
        clocks_mhz: Mapping[str, float] | None = None,
        *,
        window: int = 1,
    ) -> None:
        """``seen``: visits of earlier runs, so that a run that is slow from its start shows;
        ``clocks_mhz`` the device's clock in them. The median of the last ``window`` visits judges.
        """
        self.limit = limit
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=window))
        self._clocks: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_CLOCKS_KEPT))
        for key, mhz in (clocks_mhz or {}).items():
            self._clocks[key].extend([mhz] * (_CLOCKS_KEPT // 2))
        self._behind: dict[str, float] = {}
        self._seen: dict[str, list[float]] = defaultdict(list)
        for key, values in (seen or {}).items():
            self._seen[key] = sorted(values)
        self.throttled = False

    def observe(self, key: str, low_ms: float, clock_mhz: float | None = None) -> None:
        """Take note of a reference visit."""
        insort(self._seen[key], low_ms)
        self._recent[key].append(low_ms)
        if clock_mhz is not None:
            self._clocks[key].append(clock_mhz)
            self._behind[key] = median(self._clocks[key]) / clock_mhz - 1.0

    @property
    def drift(self) -> float:
        """How much slower than its baseline the worst reference just was (0.05: 5 %)."""
        return max(
            (median(last) / self._baseline(key) - 1.0 for key, last in self._recent.items()),
            default=0.0,
        )

    @property
    def closed(self) -> bool:
        """Whether visits around the latest references should not be trusted."""
        return self.throttled or self._clock_low or self.drift > self.limit

    @property
    def _clock_low(self) -> bool:
        return any(behind > CLOCK_LIMIT for behind in self._behind.values())

    def flags(self, drift: float) -> tuple[str, ...]:
        """What is wrong with a visit made now, the machine being ``drift`` slower than steady."""
        flags = (
            ("drift", drift > self.limit),
            ("clock", self._clock_low),
            ("throttled", self.throttled),
        )
        return tuple(name for name, wrong in flags if wrong)

    def _baseline(self, key: str) -> float:
        return steady_value(self._seen[key])


@dataclass(frozen=True)
class Cooling:
    """How a run waits for a closed gate: in pauses, for no more than a share of its time."""

    seconds: float
    share: float
    sleep: Callable[[float], None]


class GateKeeper(Generic[WorkloadT]):
    """Applies a gate to a run's visits and has the run wait while the gate is closed.

    References tell of the visits on both sides of them: a visit is judged when it is made, and
    once more by the references that follow. ``clocked`` is for a device that says with each visit
    whether it was throttled.
    """

    def __init__(self, gate: DriftGate, cooling: Cooling, *, clocked: bool) -> None:
        self.cooled_seconds = 0.0
        self._gate = gate
        self._cooling = cooling
        self._clocked = clocked
        self._since_references: list[WorkloadT] = []
        self._in_batch: list[WorkloadT] = []
        self._shared = False

    def judged(self, visit: Visit) -> Visit:
        """The visit with the drift of the references nearest to it, flagged if that is too much."""
        drift = max(visit.drift, self._gate.drift)
        flags = dict.fromkeys((*visit.flags, *self._gate.flags(drift)))
        if self._clocked and "throttled" not in visit.flags:
            flags.pop("throttled", None)  # its samples say it themselves
        return replace(visit, drift=drift, flags=tuple(flags))

    def visited(self, workload: WorkloadT, *, shared: bool = False) -> None:
        """Note that a workload was visited just now; ``shared``: it did not have its core alone."""
        self._shared = shared
        self._since_references.append(workload)
        self._in_batch.append(workload)

    def reference(self, key: str, visit: Visit) -> list[WorkloadT]:
        """Take note of a visit of a reference; returns the workloads to judge again."""
        self._gate.observe(key, reference_value_ms(visit), visit.clock_mhz)
        return list(self._since_references) if self._gate.closed else []

    def references_done(self) -> None:
        """All references were visited: what comes next is for the next ones to judge."""
        self._since_references = []

    def batch_starts(self) -> None:
        """A batch of visits begins."""
        self._in_batch = []

    def device_says(self, *, throttled: bool) -> list[WorkloadT]:
        """Take note of what the device says; returns the workloads to judge again."""
        self._gate.throttled = throttled
        return list(self._in_batch) if throttled else []

    def may_wait(self, elapsed_seconds: float) -> bool:
        """Whether the gate is closed and time is left to wait for it to open.

        When the time to wait is used, visits go on, flagged.
        """
        allowed = self._cooling.share * elapsed_seconds
        return (self._gate.closed or self._shared) and self.cooled_seconds < allowed

    def wait(self) -> None:
        """One pause; the references are timed after it, which is how the gate opens.

        Whether a core is still shared only the next visit tells: it is waited for once.
        """
        self._shared = False
        self._cooling.sleep(self._cooling.seconds)
        self.cooled_seconds += self._cooling.seconds


def flag_low_clocks(visits: Sequence[Visit]) -> Sequence[Visit]:
    """One workload's visits; a clock 3 % below their median is flagged ``clock``.

    Compared with itself only: what a card draws, and so the clock it can hold, differs from op to
    op.
    """
    known = [visit.clock_mhz for visit in visits if visit.clock_mhz is not None]
    if not known:
        return visits
    least = median(known) / (1.0 + CLOCK_LIMIT)
    return [
        replace(visit, flags=tuple(dict.fromkeys((*visit.flags, "clock"))))
        if visit.clock_mhz is not None and visit.clock_mhz < least
        else visit
        for visit in visits
    ]


def known_references(
    table: LatencyTable, known_ms: Mapping[str, float] | None = None
) -> dict[str, list[float]]:
    """What the references took in earlier runs into this table, and elsewhere, in ms."""
    seen = {key: [value] * _KNOWN_WEIGHT for key, value in (known_ms or {}).items()}
    for key, values in reference_visits(table).items():
        seen[key] = seen.get(key, []) + values
    return seen


def reference_clocks(table: LatencyTable) -> dict[str, float]:
    """The device's clock at the references of earlier runs into this table, in MHz."""
    return {
        row.key: row.measurement.clock_mhz
        for row in table.rows("reference")
        if row.measurement is not None and row.measurement.clock_mhz is not None
    }


def reference_visits(table: LatencyTable) -> dict[str, list[float]]:
    """What each reference took when it was visited by itself, in ms."""
    return {
        row.key: [reference_value_ms(visit) for visit in table.visits("reference", row.key)]
        for row in table.rows("reference")
    }


def reference_value_ms(visit: Visit) -> float:
    """What a reference is judged by: without the host, whose share differs between processes."""
    return visit.device_ms or visit.low_ms


def reference_baseline(table: LatencyTable) -> dict[str, float]:
    """Each reference's steady latency in this table, in ms."""
    seen = reference_visits(table)
    return {key: steady_value(sorted(values)) for key, values in seen.items() if values}


def steady_value(ordered: Sequence[float]) -> float:
    """The low quantile of sorted values: what a machine takes when it is steady."""
    return ordered[int(BASELINE_QUANTILE * len(ordered))]
