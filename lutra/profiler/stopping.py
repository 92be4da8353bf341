"""When a workload has been visited enough, and what is to be visited again although it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from lutra.errors import UsageError
from lutra.profiler.statistics import summarise
from lutra.profiler.workload import Workload
from lutra.tables import LatencyTable, Measurement, Visit
from lutra.tables.measurement import REPLACED, Category

_EVERYTHING = "*"
_LONGEST_SECONDS = 3e9  # a hundred years


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
        ``partial`` (more visits wanted). Visits that are to be replaced count until those that
        replace them are enough. Raises `ValueError` without visits.
        """
        new = standing(visits)
        if len(new) == len(visits):
            return self._judged(visits)
        measurement = self._judged(new) if new else None
        if measurement is not None and measurement.status != "partial":
            return measurement
        return summarise([_not_replaced(visit) for visit in visits])

    def _judged(self, visits: Sequence[Visit]) -> Measurement:
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


def standing(visits: Sequence[Visit]) -> list[Visit]:
    """The visits that are not to be replaced: those that a workload rests on once it is done."""
    return [visit for visit in visits if REPLACED not in visit.flags]


def _not_replaced(visit: Visit) -> Visit:
    return replace(visit, flags=tuple(flag for flag in visit.flags if flag != REPLACED))


@dataclass(frozen=True)
class Again:
    """Which rows of a table `lutra.profile` measures again although they are done, or failed.

    Those whose key matches ``pattern``, as file names do (``mbconv/*/k=7/*``), and whose last visit
    is ``older_than_seconds`` ago. Their visits stay in the table and tell what the machine is to
    what it was; when the new ones are enough, the row rests on these alone.

    >>> summary = profile("cpu", "ofa-mbv3-w1.0", "cpu.lut", networks=0, again=Again("pool/*"))
    >>> summary.visits > 0, summary.complete
    (True, True)
    """

    pattern: str = _EVERYTHING
    older_than_seconds: float = 0.0

    def check(self, keys: Sequence[str]) -> None:
        """Raise `UsageError` where the pattern means none of the keys."""
        if keys and not any(fnmatchcase(key, self.pattern) for key in keys):
            raise UsageError(
                f"nothing to measure again: '{self.pattern}' matches no key; one is {keys[0]},"
                " for example"
            )

    def chosen(
        self, table: LatencyTable, workloads: Sequence[Workload]
    ) -> list[tuple[Category, str]]:
        """Those of the workloads that are done and meant.

        What is being measured again already is not begun anew.
        """
        meant = [workload for workload in workloads if fnmatchcase(workload.key, self.pattern)]
        done = {(row.category, row.key) for row in table.rows() if row.status != "partial"}
        age = timedelta(seconds=min(self.older_than_seconds, _LONGEST_SECONDS))
        until = (datetime.now(UTC) - age).isoformat(timespec="milliseconds")
        visited = table.last_visits()
        found = [(workload.category, workload.key) for workload in meant]
        return [key for key in found if key in done and visited.get(key, "") <= until]
