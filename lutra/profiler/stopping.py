"""When a workload has been visited enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lutra.profiler.statistics import summarise
from lutra.tables import Measurement, Visit


@dataclass(frozen=True)
class StoppingRule:
    """Enough: ``min_rounds`` steady rounds from ``min_processes``, and a narrow interval.

    ``half_width`` is half the 95 % interval relative to the value. After ``max_rounds`` visits
    a workload is given up as unstable.
    """

    min_rounds: int = 6
    min_processes: int = 2
    max_rounds: int = 8
    half_width: float = 0.02  # docs/decisions.md: Enough is two per cent

    def judge(self, visits: Sequence[Visit]) -> Measurement:
        """What the visits add up to, with its status: ``stable``, ``unstable`` (given up) or
        ``partial`` (more visits wanted). Raises `ValueError` without visits.
        """
        measurement = summarise(visits)
        enough = (
            not measurement.flags
            and measurement.rounds >= self.min_rounds
            and measurement.processes >= self.min_processes
        )
        if enough and measurement.half_width <= self.half_width:
            return replace(measurement, status="stable")
        if sum("shared" not in visit.flags for visit in visits) >= self.max_rounds:
            return replace(measurement, status="unstable")
        return measurement
