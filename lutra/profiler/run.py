"""A profiling run: rounds of visits over workloads, judged, committed and repeated until enough."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lutra.devices.base import Outcome, RequestFailure, Session, TimingRequest
from lutra.errors import ModelError, TransientDeviceError
from lutra.profiler.gate import (
    Cooling,
    DriftGate,
    GateKeeper,
    flag_low_clocks,
    known_references,
    reference_clocks,
)
from lutra.profiler.plan import plan_round
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.watch import UNWATCHED, Progress, Watch
from lutra.profiler.workload import ModelStore, Workload
from lutra.tables import Failure, LatencyTable, Measurement, Visit
from lutra.tables.drift import Drift, table_drifts
from lutra.tables.measurement import Category, Status

MAX_ATTEMPTS = 3
_DEAD_DEVICE_FAILURES = 8
_REFERENCE_LIMIT_SECONDS = 60.0
_REFERENCE_WINDOW = 200  # a reference's row sums up its latest visits: there are thousands


@dataclass
class RunSummary:
    """What a run came to; ``flags`` counts the workloads' visits by what was wrong with them."""

    workloads: int = 0
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

    @property
    def complete(self) -> bool:
        """Whether every workload has a stable measurement."""
        return not (self.unstable or self.partial or self.failed)

    def to_json(self) -> dict[str, Any]:
        """For JSON and the table's record of its runs, where workloads are ``subjects``."""
        counts = asdict(self)
        return {"subjects": counts.pop("workloads"), **counts}


class ProfilingRun:
    """Measures workloads on an open session into a table.

    Visits that the table already holds count; what is stable or was given up there is not
    measured again, unless it failed in a way that a retry can mend. On a session that pairs
    references, each visit carries theirs and is corrected for drift (``drift``, by default what
    the table's visits tell); on others the references are visited in between, and a gate judges.
    """

    def __init__(
        self,
        session: Session,
        table: LatencyTable,
        store: ModelStore,
        protocol: TimingProtocol,
        *,
        references: Sequence[Workload],
        reference_ms: Mapping[str, float] | None = None,
        drift: Drift | None = None,
        watch: Watch = UNWATCHED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._table = table
        self._store = store
        self._protocol = protocol
        self._references = references
        self._known_drift = drift
        self._learn_drift()
        self._watch = watch
        self._clock = clock
        self._started = clock()
        self._gate: GateKeeper[Workload] = GateKeeper(
            DriftGate(
                protocol.drift_limit, known_references(table, reference_ms), reference_clocks(table)
            ),
            Cooling(protocol.cool_seconds, protocol.cool_share, watch.sleep),
            clocked=session.clocked,
        )
        self._visits: dict[Workload, list[tuple[int, Visit]]] = defaultdict(list)
        self._attempts: dict[Workload, int] = defaultdict(int)
        self._process_base = table.last_process()
        self._dead = 0
        self._summary = RunSummary()

    def measure(self, workloads: Sequence[Workload]) -> RunSummary:
        """Visit the workloads round by round until all are done or the budget is used.

        Raises `DeviceError` when the device is gone for good and `TableWriteError` when results
        cannot be kept; what was committed before stays.
        """
        self._started = self._clock()
        self._load_visits(workloads)
        first_round = round_number = 1 + max(
            (visit.round for workload in workloads for visit in self._visits_of(workload)),
            default=0,
        )
        while (wanted := self._wanted(workloads)) and not self._over_budget():
            rounds_done = round_number - first_round
            if rounds_done and rounds_done % self._protocol.rounds_per_process == 0:
                self._session.restart()
            self._run_round(wanted, round_number)
            self._learn_drift()
            round_number += 1
        return self._finish(workloads)

    def _elapsed(self) -> float:
        return self._clock() - self._started

    def _over_budget(self) -> bool:
        return self._elapsed() > self._watch.budget_seconds

    def _load_visits(self, workloads: Sequence[Workload]) -> None:
        measured = {(row.category, row.key): row for row in self._table.rows()}
        for workload in [*workloads, *self._references]:
            row = measured.get((workload.category, workload.key))
            if row is None:
                continue
            if row.failure is not None and not row.failure.transient:
                self._attempts[workload] = MAX_ATTEMPTS
            kept = self._table.visits(workload.category, workload.key)
            self._visits[workload] = [(-1, visit) for visit in kept]

    def _wanted(self, workloads: Sequence[Workload]) -> list[Workload]:
        return [
            workload
            for workload in workloads
            if self._attempts[workload] < MAX_ATTEMPTS
            and self._status(workload) in ("partial", "failed")
        ]

    def _status(self, workload: Workload) -> Status:
        visits = self._visits_of(workload)
        if visits:
            return self._judgement(workload.category, visits).status
        return "failed" if self._attempts[workload] else "partial"

    def _learn_drift(self) -> None:
        known = self._known_drift
        self._drifts = {"op": known, "network": known} if known else table_drifts(self._table)

    def _judgement(self, category: Category, visits: Sequence[Visit]) -> Measurement:
        return self._protocol.rule.judge(self._corrected(category, visits))

    def _corrected(self, category: Category, visits: Sequence[Visit]) -> Sequence[Visit]:
        drift = self._drifts.get(category)
        visits = [drift.corrected(visit) for visit in visits] if drift else visits
        return flag_low_clocks(visits)

    def _visits_of(self, workload: Workload) -> list[Visit]:
        return [visit for _, visit in self._visits[workload]]

    def _run_round(self, wanted: Sequence[Workload], round_number: int) -> None:
        order = plan_round(
            wanted,
            [] if self._session.pairs_references else self._references,
            seed=self._protocol.seed,
            round_number=round_number,
            every=self._protocol.reference_every,
        )
        self._gate.references_done()
        expected = self._expected(wanted)
        size = self._session.batch
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            if any(workload.category != "reference" for workload in batch):
                self._cool(round_number)
            if self._over_budget():
                return
            self._visit(batch, round_number, lambda: self._report(expected))

    def _report(self, expected: int) -> None:
        done = self._summary.visits
        self._watch.on_progress(Progress(done, max(done, expected), self._elapsed()))

    def _cool(self, round_number: int) -> None:
        """Wait while the gate is closed, as long as it may; references, or the device, open it."""
        while self._gate.may_wait(self._elapsed()):
            self._gate.wait()
            if self._session.pairs_references:
                self._gate.device_says(throttled=self._session.throttled())
            else:
                self._visit(self._references, round_number)

    def _visit(
        self,
        batch: Sequence[Workload],
        round_number: int,
        after_each: Callable[[], None] = lambda: None,
    ) -> None:
        """Time a batch and keep what comes; ``after_each`` outcome something may be told."""
        asked: list[Workload] = []
        self._gate.batch_starts()
        for outcome in self._session.measure(self._requests(batch, asked)):
            self._take(asked[outcome.id], outcome, round_number)
            after_each()
        self._reconsider(self._gate.device_says(throttled=self._session.throttled()))

    def _requests(
        self, batch: Sequence[Workload], asked: list[Workload]
    ) -> Iterator[TimingRequest]:
        """Requests for a batch, noted in ``asked``; a model that cannot be made is a failure."""
        for workload in batch:
            try:
                request = self._request(workload, asked)
            except ModelError as error:
                self._take_failure(
                    workload, RequestFailure(-1, "load", str(error), transient=False)
                )
            else:
                yield request

    def _request(self, workload: Workload, asked: list[Workload]) -> TimingRequest:
        protocol = self._protocol
        reference = workload.category == "reference"
        path = self._store.path(workload)
        asked.append(workload)
        return TimingRequest(
            len(asked) - 1,
            path,
            seconds=protocol.reference_seconds if reference else protocol.seconds,
            warmup_seconds=protocol.warmup_seconds,
            block_seconds=protocol.block_seconds,
            limit_seconds=_REFERENCE_LIMIT_SECONDS if reference else protocol.limit_seconds,
            keep=reference,
            references=self._paired_references,
        )

    @property
    def _paired_references(self) -> tuple[Path, ...]:
        if not self._session.pairs_references:
            return ()
        return tuple(self._store.path(reference) for reference in self._references)

    def _expected(self, wanted: Sequence[Workload]) -> int:
        """Visits done plus what the workloads still lack to the least number of steady rounds."""
        least = self._protocol.rule.min_rounds
        missing = sum(max(1, least - len(self._visits[workload])) for workload in wanted)
        return self._summary.visits + missing

    def _take(self, workload: Workload, outcome: Outcome, round_number: int) -> None:
        if isinstance(outcome, RequestFailure):
            self._take_failure(workload, outcome)
            return
        self._dead = 0
        self._summary.busy_seconds += outcome.busy_seconds
        self._summary.timed_seconds += outcome.timed_seconds
        process = self._process_base + outcome.process
        visit = visit_from_sample(outcome, round_number, process)
        if workload.category == "reference":
            self._take_reference(workload, visit, outcome.nodes)
            return
        self._summary.visits += 1
        self._gate.visited(workload)
        if not visit.reference_ms:
            visit = self._gate.judged(visit)
        self._commit(workload, visit, outcome.nodes)

    def _take_reference(
        self, workload: Workload, visit: Visit, nodes: tuple[int, int] | None
    ) -> None:
        """Judge the visits since the last references by this one too."""
        doubtful = self._gate.reference(workload.key, visit)
        self._commit(workload, visit, nodes)
        self._reconsider(doubtful)
        if workload == self._references[-1]:
            self._gate.references_done()

    def _commit(
        self, workload: Workload, visit: Visit, nodes: tuple[int, int] | None = None
    ) -> None:
        kept = self._visits[workload]
        visits = [*self._visits_of(workload), visit]
        if workload.category == "reference":
            visits = visits[-_REFERENCE_WINDOW:]
        measurement = self._judgement(workload.category, visits)
        number = self._table.record_visit(
            workload.category, workload.key, visit, measurement, workload.role, nodes
        )
        kept.append((number, visit))

    def _reconsider(self, workloads: Sequence[Workload]) -> None:
        """The references behind visits drifted, or the device throttled: flag them after all."""
        for workload in workloads:
            kept = self._visits[workload]
            number, visit = kept[-1]
            judged = self._gate.judged(visit)
            if judged != visit:
                kept[-1] = (number, judged)
                measurement = self._judgement(workload.category, self._visits_of(workload))
                self._table.flag_visit(number, judged, workload.category, workload.key, measurement)

    def _take_failure(self, workload: Workload, failure: RequestFailure) -> None:
        """Keep the failure; a transient one is tried again in the next rounds."""
        self._attempts[workload] += 1 if failure.transient else MAX_ATTEMPTS
        attempts = min(self._attempts[workload], MAX_ATTEMPTS)
        self._table.record_failure(
            workload.category,
            workload.key,
            Failure(failure.kind, failure.message, failure.transient, attempts),
            workload.role,
        )
        self._dead = self._dead + 1 if failure.transient else 0
        if self._dead >= _DEAD_DEVICE_FAILURES:
            raise TransientDeviceError(
                f"{self._dead} models in a row failed, last with: {failure.message}."
                " The device seems gone; the same command resumes"
            )

    def _finish(self, workloads: Sequence[Workload]) -> RunSummary:
        """Settle what every workload came to, and keep the run's provenance."""
        summary = self._summary
        summary.workloads = len(workloads)
        summary.wall_seconds = self._elapsed()
        summary.cooled_seconds = self._gate.cooled_seconds
        self._correct_everything(workloads)
        counted: Counter[str] = Counter()
        for workload in workloads:
            visits = self._corrected(workload.category, self._visits_of(workload))
            summary.flagged_visits += sum(bool(visit.flags) for visit in visits)
            counted.update(flag for visit in visits for flag in visit.flags)
            status = self._status(workload)
            summary.stable += status == "stable"
            summary.unstable += status == "unstable"
            summary.partial += status == "partial"
            summary.failed += status == "failed"
        summary.flags = dict(counted)
        self._table.record_run({**summary.to_json(), "seed": self._protocol.seed})
        return summary

    def _correct_everything(self, workloads: Sequence[Workload]) -> None:
        """The drift has become better known: all that was measured is summed up anew by it.

        Status is judged for this run's workloads; others were measured under rules of their own.
        """
        if not any(self._drifts.values()):
            return
        mine = {(workload.category, workload.key) for workload in workloads}
        visits = self._table.all_visits("op") | self._table.all_visits("network")
        measured = {}
        for row in self._table.rows():
            if row.measurement is not None and (seen := visits.get((row.category, row.key))):
                judged = self._judgement(row.category, seen)
                if (row.category, row.key) not in mine:
                    judged = replace(judged, status=row.measurement.status)
                measured[row.category, row.key] = judged
        self._table.record_measurements(measured)
