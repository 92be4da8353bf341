"""What a run's visits add up to, kept in the table: measurements, failures, the summary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import itemgetter
from statistics import median
from typing import Any

from lutra.devices.base import RequestFailure
from lutra.profiler.gate import flag_low_clocks
from lutra.profiler.plan import ANCHORS, FEW_ANCHORS, evenly
from lutra.profiler.stopping import StoppingRule, standing
from lutra.profiler.workload import Workload
from lutra.tables import Failure, LatencyTable, Measurement, Visit
from lutra.tables.measurement import Category, Status
from lutra.tables.states import States

MAX_ATTEMPTS = 3
_LEAST_VISITS = 3
_EARLIER = -1  # the number of a visit that an earlier run made
_REFERENCE_WINDOW = 200  # a reference's row sums up its latest visits: there are thousands


@dataclass
class RunSummary:
    """What a run came to.

    ``networks`` of the ``workloads`` are whole ones. ``stable`` to ``failed`` count workloads by
    their status, ``flags`` visits by what was wrong
    with them. Of ``wall_seconds``, models ran for ``busy_seconds``, of which ``timed_seconds``
    were measured; ``cooled_seconds`` went by in pauses. ``others_cores`` is how many cores other
    processes kept busy meanwhile, on average; None where the operating system does not tell.
    """

    workloads: int = 0
    networks: int = 0
    visits: int = 0
    flagged_visits: int = 0
    stable: int = 0
    unstable: int = 0
    partial: int = 0
    failed: int = 0
    wall_seconds: float = 0.0
    busy_seconds: float = 0.0
    cooled_seconds: float = 0.0
    timed_seconds: float = 0.0
    flags: dict[str, int] = field(default_factory=dict)
    others_cores: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every workload has a usable measurement: a stable one, or a wide interval."""
        return not (self.partial or self.failed)

    def to_json(self) -> dict[str, Any]:
        """For JSON and the table's record of its runs, where workloads are ``subjects``."""
        counts = asdict(self)
        return {"subjects": counts.pop("workloads"), **counts}


class VisitRecord:
    """The visits of workloads, old and new, and what they add up to; all of it in the table.

    What runs and their rounds measured is brought to one state (`lutra.tables.states`), as
    `learn_states` knows it. ``rules`` say when a workload of each category is enough.
    """

    def __init__(self, table: LatencyTable, rules: Mapping[Category, StoppingRule]) -> None:
        self._table = table
        self._rules = rules
        self._visits: dict[Workload, list[tuple[int, Visit]]] = defaultdict(list)
        self._attempts: dict[Workload, int] = defaultdict(int)
        self.failing: dict[Workload, RequestFailure] = {}
        """What was visited before and was given up now, with the failure that ended it."""
        self.learn_states()

    def load(self, workloads: Sequence[Workload]) -> None:
        """Take up what the table holds of these."""
        measured = {(row.category, row.key): row for row in self._table.rows()}
        for workload in workloads:
            row = measured.get((workload.category, workload.key))
            if row is None:
                continue
            given_up = row.failure is not None and not row.failure.transient
            if given_up and row.measurement is None:
                self._attempts[workload] = MAX_ATTEMPTS
            kept = self._table.visits(workload.category, workload.key)
            self._visits[workload] = [(_EARLIER, visit) for visit in kept]

    def wanted(self, workloads: Sequence[Workload]) -> list[Workload]:
        """Those that need more visits, and were not given up."""
        return [
            workload
            for workload in workloads
            if self._attempts[workload] < MAX_ATTEMPTS
            and self._shared_now(workload) < self._rules[workload.category].max_rounds
            and self._status(workload) in ("partial", "failed")
        ]

    def _shared_now(self, workload: Workload) -> int:
        """How many of this run's visits shared their core: a later run repeats them, not this."""
        return sum(
            number != _EARLIER and "shared" in visit.flags
            for number, visit in self._visits[workload]
        )

    def _status(self, workload: Workload) -> Status:
        visits = self._visits_of(workload)
        if visits:
            return self._judgement(workload.category, visits).status
        return "failed" if self._attempts[workload] else "partial"

    def learn_states(self) -> None:
        """Learn from the table's visits what its runs are to each other."""
        self._states = States(self._table)

    def anchors(self, known: Sequence[Workload], workloads: Sequence[Workload]) -> list[Workload]:
        """Of the ``known``, and the workloads that are done, a few that earlier runs measured well.

        Of each category not many more than are wanted; from fast to slow.
        """
        lacking = set(self.wanted(workloads))
        wanted = Counter(workload.category for workload in lacking)
        found: dict[Category, list[tuple[float, Workload]]] = defaultdict(list)
        for workload in dict.fromkeys([*known, *workloads]):
            if workload in lacking or workload.category not in wanted:
                continue
            steady = [visit.low_ms for visit in self._visits_of(workload) if not visit.flags]
            if len(steady) >= _LEAST_VISITS:
                found[workload.category].append((median(steady), workload))
        return [
            workload
            for category, measured in found.items()
            for _, workload in evenly(
                sorted(measured, key=itemgetter(0)),
                min(ANCHORS[category], max(FEW_ANCHORS, wanted[category])),
            )
        ]

    def _judgement(self, category: Category, visits: Sequence[Visit]) -> Measurement:
        return self._rules[category].judge(self._brought(category, visits))

    def _brought(self, category: Category, visits: Sequence[Visit]) -> Sequence[Visit]:
        return flag_low_clocks(self._states.brought(category, visits))

    def last_round(self, workloads: Sequence[Workload]) -> int:
        """The number of the last round in which one of these was visited; 0 if none was."""
        rounds = (visit.round for workload in workloads for visit in self._visits_of(workload))
        return max(rounds, default=0)

    def count(self, workload: Workload) -> int:
        """How often a workload was visited, not counting what is to be replaced."""
        return len(standing(self._visits_of(workload)))

    def _visits_of(self, workload: Workload) -> list[Visit]:
        return [visit for _, visit in self._visits[workload]]

    def commit(
        self, workload: Workload, visit: Visit, nodes: tuple[int, int] | None = None
    ) -> None:
        """Keep a visit; ``nodes`` are the model's operators, and those that a delegate took."""
        kept = self._visits[workload]
        visits = [*self._visits_of(workload), visit]
        if workload.category == "reference":
            visits = visits[-_REFERENCE_WINDOW:]
        measurement = self._judgement(workload.category, visits)
        number = self._table.record_visit(
            workload.category, workload.key, visit, measurement, workload.role, nodes
        )
        kept.append((number, visit))
        self.failing.pop(workload, None)

    def reconsider(
        self, workloads: Sequence[Workload], judged_now: Callable[[Visit], Visit]
    ) -> None:
        """Judge the last visit of each anew, and keep what that changes."""
        for workload in workloads:
            kept = self._visits[workload]
            number, visit = kept[-1]
            judged = judged_now(visit)
            if judged != visit:
                kept[-1] = (number, judged)
                measurement = self._judgement(workload.category, self._visits_of(workload))
                self._table.flag_visit(number, judged, workload.category, workload.key, measurement)

    def fail(self, workload: Workload, failure: RequestFailure) -> None:
        """Keep the failure; a transient one is tried again in the next rounds."""
        self._attempts[workload] += 1 if failure.transient else MAX_ATTEMPTS
        attempts = min(self._attempts[workload], MAX_ATTEMPTS)
        if attempts == MAX_ATTEMPTS and self._visits[workload]:
            self.failing[workload] = failure
        self._table.record_failure(
            workload.category,
            workload.key,
            Failure(failure.kind, failure.message, failure.transient, attempts),
            workload.role,
        )

    def settle(self, workloads: Sequence[Workload], summary: RunSummary) -> None:
        """Sum everything up with the states as they are known now; count what these came to."""
        self.bring_everything(workloads)
        counted: Counter[str] = Counter()
        timed_seconds = others_seconds = 0.0
        for workload in workloads:
            visits = self._brought(workload.category, standing(self._visits_of(workload)))
            summary.flagged_visits += sum(bool(visit.flags) for visit in visits)
            counted.update(flag for visit in visits for flag in visit.flags)
            for number, visit in self._visits[workload]:
                if number != _EARLIER and visit.others_cores is not None:
                    timed_seconds += visit.timed_seconds
                    others_seconds += visit.timed_seconds * visit.others_cores
            status = self._status(workload)
            summary.stable += status == "stable"
            summary.unstable += status == "unstable"
            summary.partial += status == "partial"
            summary.failed += status == "failed"
        summary.flags = dict(counted)
        summary.others_cores = max(others_seconds, 0.0) / timed_seconds if timed_seconds else None

    def bring_everything(self, workloads: Sequence[Workload]) -> None:
        """The states have become better known: all that was measured is summed up anew by them.

        Status is judged for this run's workloads; others were measured under rules of their own.
        """
        self.learn_states()
        mine = {(workload.category, workload.key) for workload in workloads}
        visits = self._table.all_visits("op") | self._table.all_visits("network")
        measured = {}
        for row in self._table.rows():
            if row.measurement is not None and (seen := visits.get((row.category, row.key))):
                of_others = (row.category, row.key) not in mine
                done = of_others and row.measurement.status != "partial"
                judged = self._judgement(row.category, (standing(seen) or seen) if done else seen)
                if of_others:
                    judged = replace(judged, status=row.measurement.status)
                measured[row.category, row.key] = judged
        self._table.record_measurements(measured)
