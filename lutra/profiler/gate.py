"""The drift gate: references tell when the machine was slower than it usually is."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

BASELINE_QUANTILE = 0.1


class DriftGate:
    """Judges reference visits against the low quantile of all that were seen in the run."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._latest: dict[str, float] = {}

    def observe(self, key: str, low_ms: float) -> None:
        """Take note of a reference visit."""
        self._seen[key].append(low_ms)
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
        return self.drift > self.limit

    def _baseline(self, key: str) -> float:
        return float(np.quantile(self._seen[key], BASELINE_QUANTILE))
