"""What a search measured of its candidates: which keep the budget, and what that teaches."""

# docs/decisions.md: A budget that is kept

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from lutra.errors import TransientDeviceError
from lutra.profiler.bench import Bench
from lutra.profiler.networks.calibration import calibrate_as_measured, measure_networks
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.statistics import process_spread, standard_error
from lutra.profiler.watch import Watch
from lutra.search.candidate import Candidate, Verified
from lutra.search.measuring.at_precisions import keeps
from lutra.search.measuring.caution import Caution, deviations_of
from lutra.search.result import ClosedLoop
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable, Measurement
from lutra.tables.documents import CALIBRATION, VALIDATION, read_document
from lutra.tables.measurement import VERIFY
from lutra.tables.states import States, Unlike, visits_in_one_state

_USUAL_INTERVAL = 0.01  # of a network's latency, upwards


def in_visits(times: int) -> TimingProtocol:
    """So many times the visits of `NETWORK_PROTOCOL`, those that there are included."""
    rule = NETWORK_PROTOCOL.rule
    most, least = times * rule.max_rounds, times * rule.min_rounds
    return replace(NETWORK_PROTOCOL, rule=replace(rule, min_rounds=least, max_rounds=most))


@dataclass(frozen=True)
class Seen:
    """A candidate as it was measured.

    ``raw_ms`` is what it took in the last run, or in all of them where it was done before, and
    ``visited_ms`` in all of them, in the states that the machine was in; ``runs`` tell of it.
    """

    candidate: Candidate
    measurement: Measurement
    raw_ms: float
    visited_ms: float
    runs: int

    @property
    def shift(self) -> float:
        """How much slower the machine was than in the table's state, as a share."""
        return self.visited_ms / self.measurement.latency_ms - 1.0


@dataclass
class MeasuredCandidates:
    """The candidates of one search that were measured, by the keys of their architectures.

    ``stated_percent`` is within which 95 % of predictions are said to lie; None: not known.
    """

    space: SearchSpace
    budget_ms: float
    confidence: float
    stated_percent: float | None = None
    _seen: dict[str, Seen] = field(default_factory=dict)
    _found: dict[str, Candidate] = field(default_factory=dict)
    _spread: float = 0.0  # of processes
    _unlike: Unlike = field(default_factory=Unlike)  # runs to their states

    def __post_init__(self) -> None:
        self.deviations = deviations_of(self.confidence)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def as_measured(self, candidate: Candidate) -> Candidate:
        """The candidate with what was measured of it; as it is where nothing was."""
        return self._found.get(candidate.architecture.key, candidate)

    # measuring

    def measure(
        self,
        bench: Bench,
        table: LatencyTable,
        chosen: Sequence[Candidate],
        protocol: TimingProtocol,
        watch: Watch,
    ) -> None:
        """Measure candidates into the table, in common rounds with networks that it knows.

        Raises `DeviceError`, also where none has been measured yet.
        """
        architectures = [candidate.architecture for candidate in chosen]
        near_ms = [candidate.predicted_ms for candidate in chosen]
        measure_networks(
            bench, table, self.space, architectures, VERIFY, protocol, watch, near_ms=near_ms
        )
        self._take(table, chosen)

    def _take(self, table: LatencyTable, chosen: Sequence[Candidate]) -> None:
        """Note what was measured of the candidates."""
        rows = {row.key: row for row in table.rows("network")}
        states = States(table)
        self._spread = process_spread(visits_in_one_state(table, "network", states).values())
        self._unlike = states.unlike
        run = table.last_run()
        for candidate in chosen:
            key = candidate.architecture.key
            measurement = rows[key].measurement if key in rows else None
            if measurement is None:
                continue
            visits = table.visits("network", key)
            visited_ms = median(visit.low_ms for visit in visits)
            last_ms = [visit.low_ms for visit in visits if visit.run == run] or [visited_ms]
            told = {visit.run for visit in visits if not visit.flags}
            self._seen[key] = Seen(
                candidate, measurement, median(last_ms), visited_ms, max(len(told), 1)
            )
        self._judge()
        if not self._found:
            reasons = [
                row.failure.message
                for candidate in chosen
                if (row := rows.get(candidate.architecture.key)) is not None and row.failure
            ]
            reason = next(iter(reasons), "none was reached")
            raise TransientDeviceError(f"no candidate could be measured: {reason}")

    def _judge(self) -> None:
        """Say of each candidate whether it keeps the budget: what others took tells, too."""
        for key, seen in self._seen.items():
            measured, candidate, upper = seen.measurement, seen.candidate, self._upper_ms(seen)
            verified = Verified(
                measured_ms=measured.latency_ms,
                raw_ms=seen.raw_ms,
                ci_low_ms=measured.ci_low_ms,
                ci_high_ms=measured.ci_high_ms,
                upper_ms=upper,
                within_budget=upper <= self.budget_ms,
                error_percent=100.0 * (candidate.predicted_ms / measured.latency_ms - 1.0),
                flags=measured.flags,
            )
            self._found[key] = replace(candidate, verified=verified)

    def _upper_ms(self, seen: Seen, visits: float = 1.0) -> float:
        """What a process takes at most by all that was measured; with so many times the visits.

        Never less than what the candidate took itself. What its own answer to another state of the
        machine leaves unsure stays, however many candidates there are, for part of it is common to
        them; and the next run will differ from its state, too.
        """
        latency_ms, deviation = self._caution.believed(
            seen.candidate.predicted_ms, seen.measurement.latency_ms, self._noise(seen, visits)
        )
        unsure = math.hypot(deviation, self._spread, self._unlike.error(seen.shift))
        return max(latency_ms * (1.0 + self.deviations * unsure), seen.measurement.latency_ms)

    def _noise(self, seen: Seen, visits: float = 1.0) -> float:
        """How far off a latency is in its state, relative, after so many times the visits.

        Those are made in as many times the runs.
        """
        of_visits = standard_error(seen.measurement, self._spread)
        of_runs = self._unlike.of_run / math.sqrt(seen.runs)
        return math.hypot(of_visits, of_runs) / math.sqrt(visits)

    # what they say

    def all(self) -> list[Candidate]:
        """In the order in which they were measured first."""
        return list(self._found.values())

    def kept(self) -> list[Candidate]:
        """Those that keep the budget, best first."""
        return sorted(filter(keeps, self.all()), key=lambda each: each.accuracy, reverse=True)

    def over(self) -> list[Candidate]:
        """Those that do not, or were disturbed, the nearest first."""
        return sorted(
            (each for each in self.all() if not keeps(each)),
            key=lambda each: each.verified.upper_ms if each.verified else math.inf,
        )

    def unused(self, candidate: Candidate) -> float:
        """Which share of the budget a measured one leaves; negative where it is over it."""
        assert candidate.verified is not None
        return 1.0 - candidate.verified.upper_ms / self.budget_ms

    def may_keep(self, candidate: Candidate) -> bool:
        """Whether twice the visits may show that it keeps the budget, if it was measured."""
        seen = self._seen.get(candidate.architecture.key)
        return seen is not None and self._upper_ms(seen, visits=2.0) <= self.budget_ms

    def limit_ms(self, deviations: float) -> float:
        """The limit on predictions at which candidates keep the budget, as far as is known."""
        return self.budget_ms / self._caution.factor(deviations) / self._interval

    def deviations_at(self, limit_ms: float) -> float:
        """The inverse of `limit_ms`."""
        return self._caution.deviations_at(self.budget_ms / limit_ms / self._interval)

    @property
    def _interval(self) -> float:
        """What a process takes at most, over what a network takes: usual for the candidates."""
        intervals = [
            each.verified.upper_ms / each.verified.measured_ms
            for each in self.all()
            if each.verified is not None
        ]
        return median(intervals) if intervals else 1.0 + _USUAL_INTERVAL

    @property
    def _caution(self) -> Caution:
        """What the candidates say of predictions; disturbed ones tell of the disturbance."""
        caution = Caution(self.stated_percent)
        told = [seen for seen in self._seen.values() if not seen.measurement.flags]
        caution.learn(
            [seen.candidate.predicted_ms for seen in told],
            [seen.measurement.latency_ms for seen in told],
            [self._noise(seen) for seen in told],
        )
        return caution

    def closed_loop(self, iterations: int, accuracy_cost: float | None) -> ClosedLoop:
        """How the search went, after so many iterations."""
        return ClosedLoop(
            confidence=self.confidence,
            iterations=iterations,
            measured=len(self),
            kept=len(self.kept()),
            accuracy_cost=accuracy_cost,
            margin_percent=100.0 * (1.0 - self.limit_ms(self.deviations) / self.budget_ms),
        )

    def said(self) -> Iterable[str]:
        """For people: how many keep the budget, and where none does by how much the nearest fails.

        Nothing where none was measured.
        """
        if not self._found:
            return
        kept, over = self.kept(), self.over()
        yield (
            f"{len(kept)} of the {len(self)} candidates that were measured keep"
            f" {self.budget_ms:.4g} ms with {100 * self.confidence:g} % confidence"
        )
        if kept or over[0].verified is None:
            return
        if over[0].verified.within_budget:
            yield (
                "the nearest may keep it, but was disturbed while it was measured: `lutra verify`"
                " measures it again"
            )
            return
        excess = 100.0 * (over[0].verified.upper_ms / self.budget_ms - 1.0)
        yield (
            f"no subnet was found that keeps the budget: the nearest is over it by {excess:.1f} %;"
            " search again, for what was measured is known now, or allow a larger budget"
        )


def teach(table: LatencyTable, space: SearchSpace) -> tuple[str, ...]:
    """Fit the table's calibration, where it has one, on what was measured too; remarks on that.

    Raises `TableError`.
    """
    if read_document(table, CALIBRATION, space.name) is None:
        return ()
    withdrawn = read_document(table, VALIDATION, space.name) is not None
    calibrate_as_measured(table, space)
    if not withdrawn:
        return ()
    return (
        "the table's calibration is fitted on these too, and its validation, which spoke of"
        " the one before, is withdrawn: `lutra validate` measures the error anew",
    )
