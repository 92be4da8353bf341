"""Search until what was found keeps its budget when it is measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from lutra.errors import InfeasibleError, TransientDeviceError, UsageError
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import Bench, DeviceOrSpec, bench_of_table
from lutra.profiler.calibration import calibrate_as_measured, measure_networks
from lutra.profiler.protocols import NETWORK_PROTOCOL
from lutra.profiler.statistics import process_spread
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.search.algorithms.base import INTERRUPTED, is_of_quality
from lutra.search.candidate import NEAR_EQUAL, Candidate, Verified, surest_first
from lutra.search.find import KEPT, find_networks
from lutra.search.measuring.at_precisions import best_kept, joined, keeps
from lutra.search.measuring.caution import CONFIDENCE, Caution, deviations_of, upper_ms
from lutra.search.precisions import Choice, Loss, choices_of, search_each
from lutra.search.question import TableOrPath
from lutra.search.result import ClosedLoop, SearchResult
from lutra.tables import LatencyTable, Measurement
from lutra.tables.documents import VALIDATION, read_document
from lutra.tables.measurement import VERIFY

CANDIDATES = 4  # measured in an iteration
ITERATIONS = 3
_LEAST_CONFIDENCE, _MOST_CONFIDENCE, _ROUNDING = 0.5, 0.999, 1e-9
_USUAL_INTERVAL = 0.01  # of a network's latency, upwards

OnResult = Callable[[SearchResult], None]


def find_within_budget(
    table: TableOrPath,
    max_latency_ms: float,
    *,
    alternatives: Sequence[TableOrPath] = (),
    accuracy_loss: Mapping[str, Loss] | None = None,
    device: DeviceOrSpec | None = None,
    confidence: float = CONFIDENCE,
    candidates: int = CANDIDATES,
    iterations: int = ITERATIONS,
    watch: Watch = UNWATCHED,
    on_result: OnResult = lambda result: None,
    **search: Any,
) -> SearchResult:
    """The most accurate subnet that keeps ``max_latency_ms`` when it is measured, and how sure.

    Searches with the error of predictions as a margin, measures the best ``candidates`` on the
    table's device (or ``device``), learns from them how far off predictions are where the search
    looks, and searches again among what is left, ``iterations`` times at most. What was measured
    stays in the table, and what it predicts from then on rests on it too. A candidate keeps the
    budget if with ``confidence`` a process that runs it takes no longer (`Verified.upper_ms`).

    The result's first candidates are those that keep it, best first; then those that were measured
    and do not, the nearest first. `SearchResult.closed_loop` says how it went. ``on_result`` is
    told the result so far after each iteration: what it wrote is there if the device disappears.
    Limits on other tables are kept as predicted. With ``alternatives``, tables of other precisions,
    each precision is searched and measured so in turn, where what is proposed is more accurate than
    what keeps the budget already. ``search`` are further arguments of `find_networks`; ``robust``
    is none of them, for of near-equal candidates the surest is measured anyway.

    Raises what `find_networks` and `verify` raise, and `UsageError` for an impossible setting.

    >>> result = find_within_budget("cpu.lut", 5.0, iterations=1)
    >>> result.closed_loop.measured >= result.closed_loop.kept
    True
    """
    _require_sane(confidence, candidates, iterations)
    if search.pop("robust", None) is not None:
        raise UsageError("what is measured is chosen by how sure it is already: leave out robust")
    choices = choices_of(table, alternatives, accuracy_loss or {}, search.get("space"))
    budget_ms = float(max_latency_ms)  # numbers of numpy are no JSON
    until = time.monotonic() + watch.budget_seconds
    plain: list[float] = []

    def keep(choice: Choice, done: Sequence[SearchResult]) -> SearchResult:
        own = {**search, "accuracy_loss": choice.losses}
        left = replace(watch, budget_seconds=until - time.monotonic())
        with bench_of_table(choice.table, device) as (opened, bench):
            loop = _Loop(
                bench, opened, budget_ms, confidence, candidates, left, own, best_kept(done)
            )
            plain.append(loop.proposed)
            for _ in range(iterations):
                if not loop.improve():
                    break
                on_result(joined([*done, loop.result], max(plain)))
            loop.teach()
            return loop.result

    return search_each(choices, keep, lambda found: joined(found, max(plain)))


def _require_sane(confidence: float, candidates: int, iterations: int) -> None:
    if not _LEAST_CONFIDENCE <= confidence <= _MOST_CONFIDENCE + _ROUNDING:
        raise UsageError(
            f"a confidence of {confidence:g} is not from {_LEAST_CONFIDENCE:g} to"
            f" {_MOST_CONFIDENCE:g}"
        )
    if candidates < 1 or iterations < 1:
        raise UsageError("at least one candidate must be measured, in at least one iteration")


@dataclass
class _Loop:
    """One closed loop: what was measured so far, and what is known by it."""

    bench: Bench
    table: LatencyTable
    budget_ms: float
    confidence: float
    candidates: int
    watch: Watch
    search: dict[str, Any]
    enough: float = -math.inf  # of accuracy, which keeps the budget at another precision
    _measured: dict[str, Candidate] = field(default_factory=dict)
    _iterations: int = 0
    _taught: tuple[str, ...] = ()
    _beaten: bool = False

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.watch.budget_seconds
        self._deviations = deviations_of(self.confidence)
        predictor = EfficiencyPredictor(self.table, self.search.get("space"))
        self._space = predictor.space
        self._calibrated = predictor.calibrated
        self._plain = self._found(self.budget_ms)
        self._caution = Caution(self._plain.best.stated_percent)

    @property
    def proposed(self) -> float:
        """The accuracy of what a search that measures nothing proposes."""
        return self._plain.best.accuracy

    # searching

    def improve(self) -> bool:
        """Measure a few more candidates; False where none could be better than what is kept."""
        chosen = self._choose()
        if not chosen or time.monotonic() >= self._until:
            return False
        self._iterations += 1
        left = replace(self.watch, budget_seconds=self._until - time.monotonic())
        architectures = [candidate.architecture for candidate in chosen]
        measure_networks(
            self.bench, self.table, self._space, architectures, VERIFY, NETWORK_PROTOCOL, left
        )
        self._take(chosen)
        return True

    def _choose(self) -> list[Candidate]:
        """Candidates that were not measured, from bold ones to cautious ones.

        None where a network that is as good as the boldest keeps the budget already.
        """
        chosen: dict[str, Candidate] = {}
        for deviations in np.linspace(0.0, self._deviations, self.candidates):
            with suppress(InfeasibleError):  # a margin may leave nothing
                found = self._found(self._limit_ms(float(deviations)))
                new = [
                    candidate
                    for candidate in found.candidates
                    if candidate.architecture.key not in {*self._measured, *chosen}
                ]
                if new:
                    surest, *_ = surest_first(new, NEAR_EQUAL)
                    chosen[surest.architecture.key] = surest
        new = list(chosen.values())
        if not new and not self._measured:  # next to the fastest subnet: it may be in luck
            new = list(self._plain.candidates[: self.candidates])
        known = max([self.enough, *map(_accuracy, self._kept()[:1])])
        self._beaten = bool(new) and max(map(_accuracy, new)) <= known + NEAR_EQUAL
        return [] if self._beaten else new

    def _limit_ms(self, deviations: float) -> float:
        """The limit on predictions at which candidates keep the budget, as far as is known."""
        intervals = [
            each.verified.upper_ms / each.verified.measured_ms
            for each in self._measured.values()
            if each.verified is not None
        ]
        interval = median(intervals) if intervals else 1.0 + _USUAL_INTERVAL
        return self.budget_ms / self._caution.factor(deviations) / interval

    def _found(self, limit_ms: float) -> SearchResult:
        given = self.search.get("hyperparameters") or {}
        keep = max(KEPT + len(self._measured) + self.candidates, given.get("keep", 0))
        options = {**self.search, "hyperparameters": {**given, "keep": keep}}
        result = find_networks(self.table, max_latency_ms=limit_ms, **options)
        if INTERRUPTED in result.notes:
            raise KeyboardInterrupt
        return result

    # measuring

    def _take(self, chosen: Sequence[Candidate]) -> None:
        """Note what was measured of the candidates."""
        rows = {row.key: row for row in self.table.rows("network")}
        visits = {key: seen for (_, key), seen in self.table.all_visits("network").items()}
        spread = process_spread(visits.values())
        run = self.table.last_run()
        for candidate in chosen:
            key = candidate.architecture.key
            measurement = rows[key].measurement if key in rows else None
            if measurement is None:
                continue
            raw_ms = [v.low_ms for v in visits[key] if v.run == run] or [measurement.latency_ms]
            verified = self._verified(candidate, measurement, median(raw_ms), spread)
            self._measured[key] = replace(candidate, verified=verified)
            if not measurement.flags:  # a disturbed one tells of the disturbance
                self._caution.learn([candidate.predicted_ms], [measurement.latency_ms])
        if not self._measured:
            reasons = [
                row.failure.message
                for candidate in chosen
                if (row := rows.get(candidate.architecture.key)) is not None and row.failure
            ]
            reason = next(iter(reasons), "none was reached")
            raise TransientDeviceError(f"no candidate could be measured: {reason}")

    def _verified(
        self, candidate: Candidate, measured: Measurement, raw_ms: float, spread: float
    ) -> Verified:
        upper = upper_ms(measured.latency_ms, measured.ci_high_ms, spread, self._deviations)
        return Verified(
            measured_ms=measured.latency_ms,
            raw_ms=raw_ms,
            ci_low_ms=measured.ci_low_ms,
            ci_high_ms=measured.ci_high_ms,
            upper_ms=upper,
            within_budget=upper <= self.budget_ms,
            error_percent=100.0 * (candidate.predicted_ms / measured.latency_ms - 1.0),
            flags=measured.flags,
        )

    def teach(self) -> None:
        """Fit the table's calibration, where it has one, on what was measured too."""
        if not (self._measured and self._calibrated):
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
    excess = 100.0 * (over[0].verified.upper_ms / budget_ms - 1.0)
    yield (
        f"no subnet was found that keeps the budget: the nearest is over it by {excess:.1f} %;"
        " search again, for what was measured is known now, or allow a larger budget"
    )


def _accuracy(candidate: Candidate) -> float:
    return candidate.accuracy
