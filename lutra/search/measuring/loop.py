"""One closed loop: candidates are measured, and what they say decides where the search looks."""

# docs/decisions.md: A budget that is kept

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lutra.errors import DeviceError, InfeasibleError, TableError
from lutra.predictors.accuracy import AccuracyPredictor, load_accuracy
from lutra.predictors.accuracy.remembered import remembered
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import Bench
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.watch import Watch
from lutra.search.algorithms.base import INTERRUPTED, is_of_quality
from lutra.search.candidate import NEAR_EQUAL, Candidate, surest_first
from lutra.search.find import KEPT, find_networks
from lutra.search.measuring.measured import MeasuredCandidates, in_visits, teach
from lutra.search.result import SearchResult
from lutra.tables import LatencyTable

_BOLDEST = -1.3  # deviations: one in ten keeps the budget
_LITTLE = 0.003  # of a budget: no network better by more than a hundredth of a point

OnResult = Callable[[SearchResult], None]


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
    _confirmed: set[str] = field(default_factory=set)
    _begun: bool = False  # something may be in the table
    _iterations: int = 0
    _evaluations: int = 0
    _cpu_seconds: float = 0.0
    _taught: tuple[str, ...] = ()
    _beaten: bool = False

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.watch.budget_seconds
        self._space = EfficiencyPredictor(self.table, self.search.get("space")).space
        self._measured = MeasuredCandidates(self._space, self.budget_ms, self.confidence)
        accuracy = self.search.get("accuracy")
        if not isinstance(accuracy, AccuracyPredictor):
            accuracy = load_accuracy(accuracy, self._space)
        self._accuracy = remembered(accuracy)  # many searches score much the same networks
        self._plain = self._found(self.budget_ms)
        self._measured.stated_percent = self._plain.best.stated_percent

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
                    self._measure(finalists, in_visits(2), on_result)
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
        measured = self._measured
        kept = measured.kept()
        boldest, most = 0.0, measured.deviations
        if kept:
            most = min(most, measured.deviations_at(kept[0].predicted_ms))
            boldest = max(most - measured.deviations, _BOLDEST)
            if most <= boldest or measured.unused(kept[0]) <= _LITTLE:
                return []
        chosen: dict[str, Candidate] = {}
        for deviations in np.linspace(boldest, most, self.candidates, endpoint=not kept):
            with suppress(InfeasibleError):  # a margin may leave nothing
                found = self._found(measured.limit_ms(float(deviations)))
                new = [
                    candidate
                    for candidate in found.candidates
                    if (key := candidate.architecture.key) not in measured
                    and key not in chosen
                    and not (kept and candidate.accuracy <= kept[0].accuracy)
                ]
                if new:
                    surest, *_ = surest_first(new, NEAR_EQUAL)
                    chosen[surest.architecture.key] = surest
        new = list(chosen.values())
        if not new and not measured:  # next to the fastest subnet: it may be in luck
            new = list(self._plain.candidates[: self.candidates])
        self._beaten = bool(new) and max(map(_accuracy, new)) <= self.enough + NEAR_EQUAL
        return [] if self._beaten else new

    def _finalists(self) -> list[Candidate]:
        """What may be better than the best of which twice the visits said that it keeps the budget.

        Those that keep it so far, and those that would if their interval were that of more visits.
        """
        measured = self._measured
        sure = [each for each in measured.kept() if each.architecture.key in self._confirmed]
        least = sure[0].accuracy if sure else -math.inf
        hopeful = [
            each
            for each in measured.all()
            if each.architecture.key not in self._confirmed
            and each.accuracy > least
            and measured.may_keep(each)
        ]
        return sorted(hopeful, key=_accuracy, reverse=True)[: self.candidates]

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
        self._measured.measure(self.bench, self.table, chosen, protocol, left)
        on_result(self.result)
        return True

    def _teach(self) -> None:
        if self._begun:
            self._taught = teach(self.table, self._space)

    # what came of it

    @property
    def result(self) -> SearchResult:
        """The result so far."""
        measured = self._measured
        kept = measured.kept()
        cost = self._plain.best.accuracy - kept[0].accuracy if kept else None
        return replace(
            self._plain,
            evaluations=self._evaluations,
            cpu_seconds=round(self._cpu_seconds, 3),
            candidates=(*kept, *measured.over()) or self._plain.candidates,
            closed_loop=measured.closed_loop(self._iterations, cost),
            notes=(
                *(note for note in self._plain.notes if not is_of_quality(note)),
                *self._said(),
                *self._taught,
            ),
        )

    def _said(self) -> Iterable[str]:
        if not self._measured:
            yield (
                "nothing was measured: none is predicted more accurate than what keeps the budget"
                if self._beaten
                else "nothing was measured: there was no time"
            )
            return
        how_many, *why_none = self._measured.said()
        yield how_many
        if any(other.limit_ms is not None for other in self._plain.other_tables):
            yield "the limits on other tables are kept as predicted: nothing was measured there"
        yield from why_none


def _accuracy(candidate: Candidate) -> float:
    return candidate.accuracy
