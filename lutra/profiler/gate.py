"""The drift gate: references tell when the machine was slower than it usually is.

``throttled`` is what the device itself says: it closes the gate too.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence

BASELINE_QUANTILE = 0.1


class DriftGate:
    """Judges reference visits against the low quantile of all that were seen in the run."""

    def __init__(self, limit: float, seen: Mapping[str, Sequence[float]] | None = None) -> None:
        """``seen``: visits of earlier runs, so that a run that is slow from its start shows."""
        self.limit = limit
        self._seen: dict[str, list[float]] = defaultdict(list)
        for key, values in (seen or {}).items():
            self._seen[key] = sorted(values)
        self._latest: dict[str, float] = {}
        self.throttled = False

    def observe(self, key: str, low_ms: float) -> None:
        """Take note of a reference visit."""
        insort(self._seen[key], low_ms)
        self._latest[key] = low_ms

    @property
    def drift(self) -> float:
        """How much slower than its baseline the worst reference just was (0.05: 5 %)."""
        return max(
            (value / self._baseline(key) - 1.0 for key, value in self._latest.items()), default=0.0
        )

    @property
    def closed(self) -> bool:
        """Whether visits around the latest references should not be trusted."""
        return self.throttled or self.drift > self.limit

    def flags(self, drift: float) -> tuple[str, ...]:
        """What is wrong with a visit made now, the machine being ``drift`` slower than steady."""
        flags = (("drift", drift > self.limit), ("throttled", self.throttled))
        return tuple(name for name, wrong in flags if wrong)

    def baselines(self) -> dict[str, float]:
        """Each reference's low quantile, in ms."""
        return {key: self._baseline(key) for key in self._seen}

    def _baseline(self, key: str) -> float:
        ordered = self._seen[key]
        return ordered[int(BASELINE_QUANTILE * len(ordered))]
