"""A profiling run: rounds of visits over subjects, judged, committed and repeated until enough."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lutra.devices.base import Outcome, RequestFailure, Session, TimingRequest
from lutra.errors import ModelError, TransientDeviceError
from lutra.profiler.gate import (
    DriftGate,
    flag_low_clocks,
    known_references,
    reference_clocks,
)
from lutra.profiler.plan import plan_round
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.subject import ModelStore, Subject
from lutra.tables import Failure, LatencyTable, Measurement, Visit
from lutra.tables.drift import Drift, reference_value_ms, table_drifts
from lutra.tables.measurement import Category, Status

MAX_ATTEMPTS = 3
_DEAD_DEVICE_FAILURES = 8
_REFERENCE_LIMIT_SECONDS = 60.0
_REFERENCE_WINDOW = 200  # a reference's row sums up its latest visits: there are thousands


@dataclass(frozen=True)
class Protocol:
    """How a run measures; its defaults suit single blocks of tens of microseconds to tens of ms."""

    seconds: float = 0.04
    warmup_seconds: float = 0.01
    block_seconds: float = 0.002
    limit_seconds: float = 60.0
    reference_seconds: float = 0.008
    reference_every: int = 8
    rounds_per_process: int = 3
    drift_limit: float = 0.08
    cool_seconds: float = 0.25
    cool_share: float = 0.1
    rule: StoppingRule = field(default_factory=StoppingRule)
    seed: int = 0

    def suited_to(self, session: Session) -> Protocol:
        """The protocol for a session.

        A device that tells its clock times blocks between two events of its own, which should
        be rare against the runs, and takes up to a second to raise its clock. Where visits come
        in batches from a device that cannot pair, each is a process of its own on a phone that
        heats: it must last long against the process's start, and cooling takes real pauses. The
        gate is tighter on both.
        """
        if session.clocked:
            return replace(
                self,
                warmup_seconds=max(self.warmup_seconds, 1.0),
                block_seconds=max(self.block_seconds, 0.005),
                reference_every=max(self.reference_every, 8),
                reference_seconds=max(self.reference_seconds, 0.02),
                drift_limit=0.05,
                cool_seconds=1.0,
                cool_share=0.3,
            )
        if session.pairs or session.batch == 1:
            return self
        return replace(
            self,
            seconds=max(self.seconds, 0.08),
            warmup_seconds=max(self.warmup_seconds, 0.02),
            reference_seconds=max(self.reference_seconds, 0.04),
            drift_limit=0.05,
            cool_seconds=5.0,
            cool_share=0.5,
        )


@dataclass(frozen=True)
class Progress:
    """Where a run stands: visits done, visits that will be needed as far as is known."""

    done: int
    expected: int
    seconds: float

    @property
    def eta_seconds(self) -> float:
        """Time left at the pace so far."""
        return self.seconds / self.done * (self.expected - self.done) if self.done else float("nan")


@dataclass
class RunSummary:
    """What a run came to; ``flags`` counts the subjects' visits by what was wrong with them."""

    subjects: int = 0
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
        """Whether every subject has a stable measurement."""
        return not (self.unstable or self.partial or self.failed)


class ProfilingRun:
    """Measures subjects on an open session into a table.

    Visits that the table already holds count; what is stable or was given up there is not
    measured again, unless it failed in a way that a retry can mend. On a session that pairs,
    each visit carries its references and is corrected for drift (``drift``, by default what the
    table's visits tell); on others the references are visited in between, and a gate judges.
    """

    def __init__(
        self,
        session: Session,
        table: LatencyTable,
        store: ModelStore,
        protocol: Protocol,
        *,
        references: Sequence[Subject],
        reference_ms: Mapping[str, float] | None = None,
        drift: Drift | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session = session
        self._table = table
        self._store = store
        self._protocol = protocol
        self._references = references
        self._known_drift = drift
        self._learn_drift()
        self._on_progress = on_progress
        self._clock = clock
        self._sleep = sleep
        self._gate = DriftGate(
            protocol.drift_limit, known_references(table, reference_ms), reference_clocks(table)
        )
        self._visits: dict[Subject, list[tuple[int, Visit]]] = defaultdict(list)
        self._attempts: dict[Subject, int] = defaultdict(int)
        self._since_reference: list[Subject] = []
        self._visited: list[Subject] = []
        self._process_base = table.last_process()
        self._dead = 0
        self._summary = RunSummary()

    def measure(
        self, subjects: Sequence[Subject], *, budget_seconds: float = float("inf")
    ) -> RunSummary:
        """Visit the subjects round by round until all are done or the budget is used.

        Raises `DeviceError` when the device is gone for good and `TableWriteError` when results
        cannot be kept; what was committed before stays.
        """
        started = self._clock()
        self._load_visits(subjects)
        round_number = 1 + max(
            (visit.round for subject in subjects for visit in self._visits_of(subject)), default=0
        )
        first_round = round_number
        while wanted := self._wanted(subjects):
            if self._clock() - started > budget_seconds:
                break
            if round_number > first_round and (
                (round_number - first_round) % self._protocol.rounds_per_process == 0
            ):
                self._session.restart()
            self._run_round(wanted, round_number, started, budget_seconds)
            self._learn_drift()
            round_number += 1
        return self._finish(subjects, self._clock() - started)

    def _load_visits(self, subjects: Sequence[Subject]) -> None:
        measured = {(row.category, row.key): row for row in self._table.rows()}
        for subject in [*subjects, *self._references]:
            row = measured.get((subject.category, subject.key))
            if row is None:
                continue
            if row.failure is not None and not row.failure.transient:
                self._attempts[subject] = MAX_ATTEMPTS
            kept = self._table.visits(subject.category, subject.key)
            self._visits[subject] = [(-1, visit) for visit in kept]

    def _wanted(self, subjects: Sequence[Subject]) -> list[Subject]:
        return [
            subject
            for subject in subjects
            if self._attempts[subject] < MAX_ATTEMPTS
            and self._status(subject) in ("partial", "failed")
        ]

    def _status(self, subject: Subject) -> Status:
        visits = self._visits_of(subject)
        if visits:
            return self._judgement(subject.category, visits).status
        return "failed" if self._attempts[subject] else "partial"

    def _learn_drift(self) -> None:
        known = self._known_drift
        self._drifts = {"op": known, "network": known} if known else table_drifts(self._table)

    def _judgement(self, category: Category, visits: Sequence[Visit]) -> Measurement:
        return self._protocol.rule.judge(self._corrected(category, visits))

    def _corrected(self, category: Category, visits: Sequence[Visit]) -> Sequence[Visit]:
        drift = self._drifts.get(category)
        visits = [drift.corrected(visit) for visit in visits] if drift else visits
        return flag_low_clocks(visits)

    def _visits_of(self, subject: Subject) -> list[Visit]:
        return [visit for _, visit in self._visits[subject]]

    def _run_round(
        self, wanted: Sequence[Subject], round_number: int, started: float, budget: float
    ) -> None:
        order = plan_round(
            wanted,
            [] if self._session.pairs else self._references,
            seed=self._protocol.seed,
            round_number=round_number,
            every=self._protocol.reference_every,
        )
        self._since_reference = []
        expected = self._expected(wanted)
        size = self._session.batch
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            if any(subject.category != "reference" for subject in batch):
                self._cool(started, round_number)
            if self._clock() - started > budget:
                return
            for _ in self._visit(batch, round_number):
                done = self._summary.visits
                self._on_progress(Progress(done, max(done, expected), self._clock() - started))

    def _cool(self, started: float, round_number: int) -> None:
        """Wait while the gate is closed, but no more than ``cool_share`` of the run.

        After each pause the references are timed again: that is how it opens. When the time to
        wait is used, visits go on, flagged.
        """
        while self._may_cool(started):
            self._sleep(self._protocol.cool_seconds)
            self._summary.cooled_seconds += self._protocol.cool_seconds
            if self._session.pairs:
                self._gate.throttled = self._session.throttled()
                continue
            for _ in self._visit(self._references, round_number):
                """Taking note of them is all."""

    def _visit(self, batch: Sequence[Subject], round_number: int) -> Iterator[None]:
        """Time a batch and keep what comes, yielding after each outcome."""
        asked: list[Subject] = []
        self._visited = []
        for outcome in self._session.measure(self._requests(batch, asked)):
            self._take(asked[outcome.id], outcome, round_number)
            yield
        self._gate.throttled = self._session.throttled()
        if self._gate.throttled:
            for subject in self._visited:
                self._reconsider(subject)

    def _requests(self, batch: Sequence[Subject], asked: list[Subject]) -> Iterator[TimingRequest]:
        """Requests for a batch, noted in ``asked``; a model that cannot be made is a failure."""
        for subject in batch:
            try:
                request = self._request(subject, asked)
            except ModelError as error:
                self._take_failure(subject, RequestFailure(-1, "load", str(error), transient=False))
            else:
                yield request

    def _may_cool(self, started: float) -> bool:
        allowed = self._protocol.cool_share * (self._clock() - started)
        return self._gate.closed and self._summary.cooled_seconds < allowed

    def _request(self, subject: Subject, asked: list[Subject]) -> TimingRequest:
        protocol = self._protocol
        reference = subject.category == "reference"
        path = self._store.path(subject)
        asked.append(subject)
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
        if not self._session.pairs:
            return ()
        return tuple(self._store.path(reference) for reference in self._references)

    def _expected(self, wanted: Sequence[Subject]) -> int:
        """Visits done plus what the subjects still lack to the least number of steady rounds."""
        least = self._protocol.rule.min_rounds
        missing = sum(max(1, least - len(self._visits[subject])) for subject in wanted)
        return self._summary.visits + missing

    def _take(self, subject: Subject, outcome: Outcome, round_number: int) -> None:
        if isinstance(outcome, RequestFailure):
            self._take_failure(subject, outcome)
            return
        self._dead = 0
        self._summary.busy_seconds += outcome.busy_seconds
        self._summary.timed_seconds += outcome.timed_seconds
        process = self._process_base + outcome.process
        visit = visit_from_sample(outcome, round_number, process)
        if subject.category == "reference":
            self._take_reference(subject, visit, outcome.nodes)
            return
        self._summary.visits += 1
        self._since_reference.append(subject)
        self._visited.append(subject)
        if not visit.reference_ms:
            visit = self._judged(visit)
        self._commit(subject, visit, outcome.nodes)

    def _take_reference(
        self, subject: Subject, visit: Visit, nodes: tuple[int, int] | None
    ) -> None:
        """Judge the visits since the last references by this one too."""
        self._gate.observe(subject.key, reference_value_ms(visit), visit.clock_mhz)
        self._commit(subject, visit, nodes)
        if self._gate.closed:
            for visited in self._since_reference:
                self._reconsider(visited)
        if subject == self._references[-1]:
            self._since_reference = []

    def _judged(self, visit: Visit) -> Visit:
        """The visit with the drift of the references nearest to it, flagged if that is too much."""
        drift = max(visit.drift, self._gate.drift)
        flags = dict.fromkeys((*visit.flags, *self._gate.flags(drift)))
        if self._session.clocked and "throttled" not in visit.flags:
            flags.pop("throttled", None)  # its samples say it themselves
        return replace(visit, drift=drift, flags=tuple(flags))

    def _commit(self, subject: Subject, visit: Visit, nodes: tuple[int, int] | None = None) -> None:
        kept = self._visits[subject]
        visits = [*self._visits_of(subject), visit]
        if subject.category == "reference":
            visits = visits[-_REFERENCE_WINDOW:]
        measurement = self._judgement(subject.category, visits)
        number = self._table.record_visit(
            subject.category, subject.key, visit, measurement, subject.role, nodes
        )
        kept.append((number, visit))

    def _reconsider(self, subject: Subject) -> None:
        """The references behind a visit drifted, or the device throttled: flag it after all."""
        kept = self._visits[subject]
        number, visit = kept[-1]
        judged = self._judged(visit)
        if judged == visit:
            return
        kept[-1] = (number, judged)
        measurement = self._judgement(subject.category, self._visits_of(subject))
        self._table.flag_visit(number, judged, subject.category, subject.key, measurement)

    def _take_failure(self, subject: Subject, failure: RequestFailure) -> None:
        """Keep the failure; a transient one is tried again in the next rounds."""
        self._attempts[subject] += 1 if failure.transient else MAX_ATTEMPTS
        attempts = min(self._attempts[subject], MAX_ATTEMPTS)
        self._table.record_failure(
            subject.category,
            subject.key,
            Failure(failure.kind, failure.message, failure.transient, attempts),
            subject.role,
        )
        self._dead = self._dead + 1 if failure.transient else 0
        if self._dead >= _DEAD_DEVICE_FAILURES:
            raise TransientDeviceError(
                f"{self._dead} models in a row failed, last with: {failure.message}."
                " The device seems gone; the same command resumes"
            )

    def _finish(self, subjects: Sequence[Subject], wall_seconds: float) -> RunSummary:
        """Settle what every subject came to, and keep the run's provenance."""
        summary = self._summary
        summary.subjects = len(subjects)
        summary.wall_seconds = wall_seconds
        self._correct_everything(subjects)
        counted: Counter[str] = Counter()
        for subject in subjects:
            visits = self._corrected(subject.category, self._visits_of(subject))
            summary.flagged_visits += sum(bool(visit.flags) for visit in visits)
            counted.update(flag for visit in visits for flag in visit.flags)
            status = self._status(subject)
            summary.stable += status == "stable"
            summary.unstable += status == "unstable"
            summary.partial += status == "partial"
            summary.failed += status == "failed"
        summary.flags = dict(counted)
        self._table.record_run({**asdict(summary), "seed": self._protocol.seed})
        return summary

    def _correct_everything(self, subjects: Sequence[Subject]) -> None:
        """The drift has become better known: all that was measured is summed up anew by it.

        Status is judged for this run's subjects; others were measured under rules of their own.
        """
        if not any(self._drifts.values()):
            return
        mine = {(subject.category, subject.key) for subject in subjects}
        visits = self._table.all_visits("op") | self._table.all_visits("network")
        measured = {}
        for row in self._table.rows():
            if row.measurement is not None and (seen := visits.get((row.category, row.key))):
                judged = self._judgement(row.category, seen)
                if (row.category, row.key) not in mine:
                    judged = replace(judged, status=row.measurement.status)
                measured[row.category, row.key] = judged
        self._table.record_measurements(measured)
