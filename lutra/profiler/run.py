"""A profiling run: rounds of visits over workloads, judged, committed and repeated until enough."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from lutra.devices.base import Outcome, RequestFailure, Session, TimingRequest
from lutra.errors import ModelError, TableError, TransientDeviceError
from lutra.profiler.gate import (
    Cooling,
    DriftGate,
    GateKeeper,
    known_references,
    reference_clocks,
)
from lutra.profiler.plan import plan_round
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.record import RunSummary, VisitRecord
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.watch import UNWATCHED, Progress, Watch
from lutra.profiler.workload import ModelStore, Workload
from lutra.tables import LatencyTable, Visit
from lutra.tables.measurement import ANCHOR, Category

_DEAD_DEVICE_FAILURES = 8
_REFERENCE_LIMIT_SECONDS = 60.0
_BUSY_CORES = 0.5
_NOTED_VISITS, _NOTED_SHARE = 4, 0.05  # a short visit is spoilt by a blink of the kernel's
_LATE_SECONDS = 1.0  # for a visit that the end of the budget finds under way
_SHORT_WINDOW = 5  # short visits of a reference; one alone is as noisy as what it would judge


class ProfilingRun:
    """Measures workloads on an open session into a table.

    Visits that the table already holds count; what is stable or was given up there is not
    measured again, unless it failed in a way that a retry can mend. References are visited in
    between, and a gate judges by them.
    """

    def __init__(
        self,
        session: Session,
        table: LatencyTable,
        store: ModelStore,
        protocol: TimingProtocol,
        *,
        network_protocol: TimingProtocol | None = None,
        references: Sequence[Workload],
        reference_ms: Mapping[str, float] | None = None,
        watch: Watch = UNWATCHED,
        other_processes: Callable[[], Sequence[str]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``network_protocol`` is how whole networks are timed, by default as the others are;
        ``other_processes`` is asked who computes on the device, at the start and once a visit
        shared it.
        """
        self._session = session
        self._table = table
        self._store = store
        self._protocol = protocol
        # docs/decisions.md: Networks in the rounds of the ops
        self._protocols: dict[Category, TimingProtocol] = {
            "op": protocol,
            "reference": protocol,
            "network": network_protocol or protocol,
        }
        self._references = references
        rules = {category: chosen.rule for category, chosen in self._protocols.items()}
        self._record = VisitRecord(table, rules)
        self._watch = watch
        self._other_processes = other_processes
        self._clock = clock
        self._started = clock()
        self._gate: GateKeeper[Workload] = GateKeeper(
            DriftGate(
                protocol.drift_limit,
                # Where models stay loaded, anchors bring one run to another.
                {} if session.keeps_models else known_references(table, reference_ms),
                reference_clocks(table),
                window=_SHORT_WINDOW if session.keeps_models else 1,
            ),
            Cooling(protocol.cool_seconds, protocol.cool_share, watch.sleep),
            clocked=session.clocked,
        )
        self._process_base = table.last_process()
        self._run = table.last_run() + 1
        self._failures_in_a_row = 0
        self._summary = RunSummary()
        self._others_noted = False
        self._shared_visits = 0

    def measure(
        self, workloads: Sequence[Workload], anchors: Sequence[Workload] = ()
    ) -> RunSummary:
        """Visit the workloads round by round until all are done or the budget is used.

        Some of the ``anchors``, and of the workloads that are done already, are visited along: they
        tell what this run's state is to that of the runs before. Raises `DeviceError` when the
        device is gone for good and `TableWriteError` when results cannot be kept; what was
        committed before stays.
        """
        self._started = self._clock()
        self._record.load([*workloads, *anchors, *self._references])
        if self._record.wanted(workloads):
            self._note_busy()
        try:
            self._run_rounds(workloads, anchors)
        except BaseException:
            with contextlib.suppress(TableError):  # what is in the table is of one state
                self._record.bring_everything(workloads)
            raise
        return self._finish(workloads)

    def _run_rounds(self, workloads: Sequence[Workload], anchors: Sequence[Workload]) -> None:
        known = self._record.anchors(anchors, workloads)
        first_round = round_number = 1 + self._record.last_round(workloads)
        while (wanted := self._record.wanted(workloads)) and not self._over_budget():
            rounds_done = round_number - first_round
            if rounds_done and rounds_done % self._protocol.rounds_per_process == 0:
                self._session.restart()
            categories = {workload.category for workload in wanted}
            along = [
                anchor
                for anchor in known
                if anchor.category in categories
                # Not beside stragglers, who see the machine of later rounds.
                and rounds_done < self._protocols[anchor.category].rule.min_rounds
            ]
            self._run_round([*wanted, *along], round_number)
            self._record.learn_states()
            round_number += 1

    def _elapsed(self) -> float:
        return self._clock() - self._started

    def _over_budget(self) -> bool:
        return self._elapsed() > self._watch.budget_seconds

    def _run_round(self, wanted: Sequence[Workload], round_number: int) -> None:
        order = plan_round(
            wanted,
            self._references,
            seed=self._protocol.seed,
            round_number=round_number,
            every=self._protocol.reference_every,
        )
        self._gate.references_done()
        expected = self._expected(wanted)
        while order:
            size = self._batch_size()
            batch, order = order[:size], order[size:]
            if any(workload.category != "reference" for workload in batch):
                self._cool(round_number)
            if self._over_budget():
                return
            self._visit(batch, round_number, lambda: self._report(expected))

    def _report(self, expected: int) -> None:
        """Say how far it is: to what is wanted, or to what the budget has time for at this pace."""
        done, elapsed = self._summary.visits, self._elapsed()
        if done and elapsed and math.isfinite(self._watch.budget_seconds):
            expected = min(expected, int(done * self._watch.budget_seconds / elapsed))
        self._watch.on_progress(Progress(done, max(done, expected), elapsed))

    def _batch_size(self) -> int:
        """As many requests as the session takes, and as the budget has time for at this pace."""
        size, elapsed = self._session.batch, self._elapsed()
        if size == 1 or not elapsed or math.isinf(self._watch.budget_seconds):
            return size
        left = self._watch.budget_seconds - elapsed
        return max(1, min(size, int(left / elapsed * max(self._summary.visits, 1))))

    def _cool(self, round_number: int) -> None:
        """Wait while the gate is closed, as long as it may; references, or the device, open it."""
        while self._gate.may_wait(self._elapsed()):
            self._gate.wait()
            self._visit(self._references, round_number)

    def _visit(
        self,
        batch: Sequence[Workload],
        round_number: int,
        after_each: Callable[[], None] = lambda: None,
    ) -> None:
        """Time a batch and keep what comes; ``after_each`` is called behind each outcome."""
        asked: list[Workload] = []
        self._gate.batch_starts()
        for outcome in self._session.measure(self._requests(batch, asked)):
            if isinstance(outcome, RequestFailure) and self._over_budget():
                continue  # it may be the budget that ended it
            self._take(asked[outcome.id], outcome, round_number)
            after_each()
        self._reconsider(self._gate.device_says(throttled=self._session.throttled()))

    def _reconsider(self, workloads: Sequence[Workload]) -> None:
        """Flag visits after all: the references behind them drifted, or the device throttled."""
        self._record.reconsider(workloads, self._gate.judged)

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
        protocol = self._protocols[workload.category]
        reference = workload.category == "reference"
        path = self._store.path(workload)
        asked.append(workload)
        return TimingRequest(
            len(asked) - 1,
            path,
            seconds=protocol.reference_seconds if reference else protocol.seconds,
            warmup_seconds=protocol.warmup_seconds,
            block_seconds=protocol.block_seconds,
            limit_seconds=min(
                _REFERENCE_LIMIT_SECONDS if reference else protocol.limit_seconds,
                max(0.0, self._watch.budget_seconds - self._elapsed()) + _LATE_SECONDS,
            ),
            min_blocks=protocol.min_blocks,
            keep=reference or self._session.keeps_models,
        )

    def _expected(self, wanted: Sequence[Workload]) -> int:
        """Visits done plus what the workloads still lack to the least number of steady rounds."""
        missing = sum(
            max(1, self._protocols[item.category].rule.min_rounds - self._record.count(item))
            for item in wanted
        )
        return self._summary.visits + missing

    def _take(self, workload: Workload, outcome: Outcome, round_number: int) -> None:
        if isinstance(outcome, RequestFailure):
            self._take_failure(workload, outcome)
            return
        self._failures_in_a_row = 0
        self._summary.busy_seconds += outcome.busy_seconds
        self._summary.timed_seconds += outcome.timed_seconds
        process = self._process_base + outcome.process
        visit = visit_from_sample(outcome, round_number, process, self._run)
        if workload.category == "reference":
            self._take_reference(workload, visit, outcome.nodes)
            return
        self._summary.visits += 1
        self._gate.visited(workload, shared="shared" in visit.flags)
        self._note_others(visit)
        visit = self._gate.judged(visit)
        self._record.commit(workload, visit, outcome.nodes)

    def _note_busy(self) -> None:
        """Say who computes on the machine before anything is measured; of a GPU, visits tell."""
        busy = () if self._session.clocked else self._other_processes()
        if busy:
            self._watch.on_note(
                f"{', '.join(busy)} already: what comes from a shared cache or from memory is"
                " slower meanwhile; stop it, or the table speaks of a busy machine"
            )

    def _note_others(self, visit: Visit) -> None:
        """Say once, as soon as it shows, that the device is not the run's own."""
        self._shared_visits += "shared" in visit.flags
        rarely = self._shared_visits < max(_NOTED_VISITS, _NOTED_SHARE * self._summary.visits)
        if rarely or self._others_noted:
            return
        self._others_noted = True
        named = ", ".join(self._other_processes()) or "another process"
        self._watch.on_note(
            f"{named} computes where the models run: visits that share their core or GPU are"
            " flagged and repeated; stop it, or the results will be thin"
        )

    def _take_reference(
        self, workload: Workload, visit: Visit, nodes: tuple[int, int] | None
    ) -> None:
        """Judge the visits since the last references by this one too."""
        if workload.role != ANCHOR:
            self._reconsider(self._gate.reference(workload.key, visit))
        # While the run waits they are visited most, and speak of what it waits for.
        self._record.commit(workload, self._gate.judged(visit), nodes)
        if workload == self._references[-1]:
            self._gate.references_done()

    def _take_failure(self, workload: Workload, failure: RequestFailure) -> None:
        """Keep the failure; a device that fails again and again is gone."""
        self._record.fail(workload, failure)
        self._failures_in_a_row = self._failures_in_a_row + 1 if failure.transient else 0
        if self._failures_in_a_row >= _DEAD_DEVICE_FAILURES:
            raise TransientDeviceError(
                f"{self._failures_in_a_row} models in a row failed, last with: {failure.message}."
                " The device seems gone; the same command resumes"
            )

    def _note_failing(self) -> None:
        """Say why there are no more visits to what was measured before: its number hides that."""
        failing = self._record.failing
        if failing:
            (workload, failure), others = next(iter(failing.items())), len(failing) - 1
            more = f", and {others} more" if others else ""
            self._watch.on_note(
                f"{workload.key}{more} could be measured before and fails now ({failure.kind}:"
                f" {failure.message}); what was measured before stands"
            )

    def _finish(self, workloads: Sequence[Workload]) -> RunSummary:
        """Settle what every workload came to, and keep the run's provenance."""
        summary = self._summary
        summary.workloads = len(workloads)
        summary.networks = sum(workload.category == "network" for workload in workloads)
        summary.wall_seconds = self._elapsed()
        summary.cooled_seconds = self._gate.cooled_seconds
        self._record.settle(workloads, summary)
        self._note_failing()
        if (summary.others_cores or 0.0) > _BUSY_CORES:
            self._watch.on_note(
                f"other processes kept {summary.others_cores:.1f} cores busy meanwhile, which slows"
                " whatever comes from a shared cache or from memory: expect results to differ on"
                " an idle machine"
            )
        self._table.record_run({**summary.to_json(), "seed": self._protocol.seed})
        return summary
