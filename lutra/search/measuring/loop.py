"""One closed loop: candidates are measured, and what they say decides where the search looks."""

# docs/decisions.md: A budget that is kept

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from lutra.errors import (
    DeviceError,
    InfeasibleError,
    TableError,
    TransientDeviceError,
)
from lutra.predictors.accuracy import AccuracyPredictor, load_accuracy
from lutra.predictors.accuracy.remembered import remembered
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import Bench
from lutra.profiler.networks.calibration import calibrate_as_measured, measure_networks
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.statistics import process_spread, standard_error
from lutra.profiler.watch import Watch
from lutra.search.algorithms.base import INTERRUPTED, is_of_quality
from lutra.search.candidate import NEAR_EQUAL, Candidate, Verified, surest_first
from lutra.search.find import KEPT, find_networks
from lutra.search.measuring.at_precisions import keeps
from lutra.search.measuring.caution import Caution, deviations_of, state_error
from lutra.search.result import ClosedLoop, SearchResult
from lutra.tables import LatencyTable, Measurement
from lutra.tables.documents import VALIDATION, read_document
from lutra.tables.measurement import VERIFY
from lutra.tables.states import visits_in_one_state

_USUAL_INTERVAL = 0.01  # of a network's latency, upwards
_BOLDEST = -1.3  # deviations: one in ten keeps the budget
_LITTLE = 0.003  # of a budget: no network better by more than a hundredth of a point
_CONFIRMING = replace(
    NETWORK_PROTOCOL,
    rule=replace(
        NETWORK_PROTOCOL.rule,
        min_rounds=2 * NETWORK_PROTOCOL.rule.min_rounds,
        max_rounds=2 * NETWORK_PROTOCOL.rule.max_rounds,
    ),
)

OnResult = Callable[[SearchResult], None]


@dataclass(frozen=True)
class Seen:
    """A candidate that was measured; ``raw_ms`` is what it took in the last run."""

    candidate: Candidate
    measurement: Measurement
    raw_ms: float


@dataclass
class Loop:
    """One closed loop: what was measured so far, and what is known by it."""

    bench: Bench
    table: LatencyTable
    budget_ms: float
    confidence: float
    candidates: int
    watch: Watch
    search: dict[str, Any]
    enough: float = -math.inf  # of accuracy, which keeps the budget at another precision
    _seen: dict[str, Seen] = field(default_factory=dict)
    _measured: dict[str, Candidate] = field(default_factory=dict)
    _confirmed: set[str] = field(default_factory=set)
    _spread: float = 0.0  # of processes
    _begun: bool = False  # something may be in the table
    _iterations: int = 0
    _evaluations: int = 0
    _cpu_seconds: float = 0.0
    _taught: tuple[str, ...] = ()
    _beaten: bool = False

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.watch.budget_seconds
        self._deviations = deviations_of(self.confidence)
        predictor = EfficiencyPredictor(self.table, self.search.get("space"))
        self._space = predictor.space
        self._calibrated = predictor.calibrated
        accuracy = self.search.get("accuracy")
        if not isinstance(accuracy, AccuracyPredictor):
            accuracy = load_accuracy(accuracy, self._space)
        self._accuracy = remembered(accuracy)  # many searches score much the same networks
        self._plain = self._found(self.budget_ms)

    @property
    def proposed(self) -> float:
        """The accuracy of what a search that measures nothing proposes."""
        return self._plain.best.accuracy

    def run(self, iterations: int, on_result: OnResult) -> None:
        """Search and measure, ``iterations`` times at most, and teach the table."""
        try:
            for _ in range(iterations):
                self._iterations += 1
                if not self._measure(self._choose(), NETWORK_PROTOCOL, on_result):
                    self._iterations -= 1
                    break
                if finalists := self._finalists():
                    self._measure(finalists, _CONFIRMING, on_result)
                    self._confirmed |= {each.architecture.key for each in finalists}
        except (KeyboardInterrupt, DeviceError):
            with suppress(TableError):  # what stopped it is what is said
                self._teach()
                if self._measured:
                    on_result(self.result)
            raise
        self._teach()

    # searching

    def _choose(self) -> list[Candidate]:
        """Candidates that were not measured, from bold ones to cautious ones.

        Once a network keeps the budget, between that one and those that hardly will; none where it
        leaves too little of the budget for a better one.
        """
        kept = self._kept()
        boldest, most = 0.0, self._deviations
        if kept:
            most = min(most, self._deviations_at(kept[0].predicted_ms))
            boldest = max(most - self._deviations, _BOLDEST)
            if most <= boldest or self._unused(kept[0]) <= _LITTLE:
                return []
        chosen: dict[str, Candidate] = {}
        for deviations in np.linspace(boldest, most, self.candidates, endpoint=not kept):
            with suppress(InfeasibleError):  # a margin may leave nothing
                found = self._found(self._limit_ms(float(deviations)))
                new = [
                    candidate
                    for candidate in found.candidates
                    if candidate.architecture.key not in {*self._measured, *chosen}
                    and not (kept and candidate.accuracy <= kept[0].accuracy)
                ]
                if new:
                    surest, *_ = surest_first(new, NEAR_EQUAL)
                    chosen[surest.architecture.key] = surest
        new = list(chosen.values())
        if not new and not self._measured:  # next to the fastest subnet: it may be in luck
            new = list(self._plain.candidates[: self.candidates])
        self._beaten = bool(new) and max(map(_accuracy, new)) <= self.enough + NEAR_EQUAL
        return [] if self._beaten else new

    def _finalists(self) -> list[Candidate]:
        """What may be better than the best of which twice the visits said that it keeps the budget.

        Those that keep it so far, and those that would if their interval were that of more visits.
        """
        sure = [each for each in self._kept() if each.architecture.key in self._confirmed]
        least = sure[0].accuracy if sure else -math.inf
        hopeful = [
            each
            for key, each in self._measured.items()
            if key not in self._confirmed and each.accuracy > least and self._may_keep(key)
        ]
        return sorted(hopeful, key=_accuracy, reverse=True)[: self.candidates]

    def _may_keep(self, key: str) -> bool:
        """Whether twice the visits may show that the budget is kept."""
        return self._upper_ms(self._seen[key], visits=2.0) <= self.budget_ms

    def _unused(self, candidate: Candidate) -> float:
        """Which share of the budget a measured candidate leaves; negative where it is over it."""
        assert candidate.verified is not None
        return 1.0 - candidate.verified.upper_ms / self.budget_ms

    def _limit_ms(self, deviations: float) -> float:
        """The limit on predictions at which candidates keep the budget, as far as is known."""
        return self.budget_ms / self._caution.factor(deviations) / self._interval

    def _deviations_at(self, limit_ms: float) -> float:
        """The inverse of `_limit_ms`."""
        return self._caution.deviations_at(self.budget_ms / limit_ms / self._interval)

    @property
    def _interval(self) -> float:
        """What a process takes at most, over what a network takes: usual for the candidates."""
        intervals = [
            each.verified.upper_ms / each.verified.measured_ms
            for each in self._measured.values()
            if each.verified is not None
        ]
        return median(intervals) if intervals else 1.0 + _USUAL_INTERVAL

    @property
    def _caution(self) -> Caution:
        """What the candidates say of predictions; disturbed ones tell of the disturbance."""
        caution = Caution(self._plain.best.stated_percent)
        told = [seen for seen in self._seen.values() if not seen.measurement.flags]
        caution.learn(
            [seen.candidate.predicted_ms for seen in told],
            [seen.measurement.latency_ms for seen in told],
            [self._noise(seen) for seen in told],
        )
        return caution

    def _noise(self, seen: Seen, visits: float = 1.0) -> float:
        """How far what was measured is off, relative; with so many times the visits."""
        own = standard_error(seen.measurement, self._spread) / math.sqrt(visits)
        return math.hypot(own, state_error(seen.measurement.latency_ms, seen.raw_ms))

    def _upper_ms(self, seen: Seen, visits: float = 1.0) -> float:
        """What a process takes at most, by all that was measured."""
        latency_ms, deviation = self._caution.believed(
            seen.candidate.predicted_ms, seen.measurement.latency_ms, self._noise(seen, visits)
        )
        upper = latency_ms * (1.0 + self._deviations * math.hypot(deviation, self._spread))
        return max(upper, seen.measurement.latency_ms)

    def _found(self, limit_ms: float) -> SearchResult:
        given = self.search.get("hyperparameters") or {}
        keep = max(KEPT + len(self._measured) + self.candidates, given.get("keep", 0))
        options = {
            **self.search,
            "accuracy": self._accuracy,
            "hyperparameters": {**given, "keep": keep},
        }
        result = find_networks(self.table, max_latency_ms=limit_ms, **options)
        self._evaluations += result.evaluations
        self._cpu_seconds += result.cpu_seconds
        if INTERRUPTED in result.notes:
            raise KeyboardInterrupt
        return result

    # measuring

    def _measure(
        self, chosen: Sequence[Candidate], protocol: TimingProtocol, on_result: OnResult
    ) -> bool:
        """Measure some candidates, and say what came of it; False without any, or time."""
        if not chosen or time.monotonic() >= self._until:
            return False
        self._begun = True
        left = replace(self.watch, budget_seconds=self._until - time.monotonic())
        architectures = [candidate.architecture for candidate in chosen]
        measure_networks(self.bench, self.table, self._space, architectures, VERIFY, protocol, left)
        self._take(chosen)
        on_result(self.result)
        return True

    def _take(self, chosen: Sequence[Candidate]) -> None:
        """Note what was measured of the candidates."""
        rows = {row.key: row for row in self.table.rows("network")}
        self._spread = process_spread(visits_in_one_state(self.table, "network").values())
        run = self.table.last_run()
        for candidate in chosen:
            key = candidate.architecture.key
            measurement = rows[key].measurement if key in rows else None
            if measurement is None:
                continue
            visits = self.table.visits("network", key)
            raw_ms = [v.low_ms for v in visits if v.run == run] or [measurement.latency_ms]
            self._seen[key] = Seen(candidate, measurement, median(raw_ms))
        self._judge()
        if not self._measured:
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
            self._measured[key] = replace(candidate, verified=verified)

    def _teach(self) -> None:
        """Fit the table's calibration, where it has one, on what was measured too."""
        if not (self._begun and self._calibrated):
            return
        if read_document(self.table, VALIDATION, self._space.name) is not None:
            self._taught = (
                "the table's calibration is fitted on these too, and its validation, which spoke of"
                " the one before, is withdrawn: `lutra validate` measures the error anew",
            )
        calibrate_as_measured(self.table, self._space)

    # what came of it

    def _kept(self) -> list[Candidate]:
        """Those that keep the budget, best first."""
        return sorted(filter(keeps, self._measured.values()), key=_accuracy, reverse=True)

    @property
    def result(self) -> SearchResult:
        """The result so far."""
        kept = self._kept()
        over = sorted(
            (each for each in self._measured.values() if not keeps(each)),
            key=lambda each: each.verified.upper_ms if each.verified else math.inf,
        )
        loop = ClosedLoop(
            confidence=self.confidence,
            iterations=self._iterations,
            measured=len(self._measured),
            kept=len(kept),
            accuracy_cost=self._plain.best.accuracy - kept[0].accuracy if kept else None,
            margin_percent=100.0 * (1.0 - self._limit_ms(self._deviations) / self.budget_ms),
        )
        return replace(
            self._plain,
            evaluations=self._evaluations,
            cpu_seconds=round(self._cpu_seconds, 3),
            candidates=(*kept, *over) or self._plain.candidates,
            closed_loop=loop,
            notes=(
                *(note for note in self._plain.notes if not is_of_quality(note)),
                *_said(loop, self._plain, self.budget_ms, over, beaten=self._beaten),
                *self._taught,
            ),
        )


def _said(
    loop: ClosedLoop,
    plain: SearchResult,
    budget_ms: float,
    over: Sequence[Candidate],
    *,
    beaten: bool,
) -> Iterable[str]:
    if not loop.measured:
        yield (
            "nothing was measured: none is predicted more accurate than what keeps the budget"
            if beaten
            else "nothing was measured: there was no time"
        )
        return
    yield (
        f"{loop.kept} of the {loop.measured} candidates that were measured keep {budget_ms:.4g} ms"
        f" with {100 * loop.confidence:g} % confidence"
    )
    if any(other.limit_ms is not None for other in plain.other_tables):
        yield "the limits on other tables are kept as predicted: nothing was measured there"
    if loop.kept or not over or over[0].verified is None:
        return
    if over[0].verified.within_budget:
        yield "the nearest may keep it, but was disturbed while it was measured: run it again"
        return
    excess = 100.0 * (over[0].verified.upper_ms / budget_ms - 1.0)
    yield (
        f"no subnet was found that keeps the budget: the nearest is over it by {excess:.1f} %;"
        " search again, for what was measured is known now, or allow a larger budget"
    )


def _accuracy(candidate: Candidate) -> float:
    return candidate.accuracy
