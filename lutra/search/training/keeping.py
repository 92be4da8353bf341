"""Single-path search until the network that it ends with keeps its budget when it is measured."""

# docs/decisions.md: A budget that is kept

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lutra.errors import DeviceError, TableError
from lutra.profiler.bench import DeviceOrSpec, bench_of_table
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.watch import Watch
from lutra.search.candidate import Candidate
from lutra.search.measuring.at_precisions import keeps
from lutra.search.measuring.measured import MeasuredCandidates, in_visits, teach
from lutra.search.result import ClosedLoop
from lutra.tables import LatencyTable, opened_table

ITERATIONS = 4
_UNUSED = 0.02  # of a budget: worth training on for
_LITTLE = 0.003  # of a latency: hardly another network

GoOn = Callable[[float], Candidate]
"""Trains on with predictions limited to some ms: what the search ends with then."""


@dataclass(frozen=True)
class Kept:
    """What a search ends with: the slowest network that keeps the budget, else the nearest.

    As it was measured, where it could be; ``notes`` are for people.
    """

    candidate: Candidate
    closed_loop: ClosedLoop
    notes: tuple[str, ...]


class Keeping:
    """Measures what a training search ends with, and has it go on until that keeps its budget.

    ``table`` is what is measured into, ``range_ms`` what the fastest and the slowest
    network that a training may end with are predicted at. Raises at once, before anything is
    trained, what `bench_of_table` raises, and `TargetMismatchError` for a device that is not the
    table's.
    """

    def __init__(
        self,
        table: LatencyTable | str | Path,
        device: DeviceOrSpec,
        measured: MeasuredCandidates,
        range_ms: tuple[float, float],
        watch: Watch,
    ) -> None:
        self._table = table
        self._device = device
        self._measured = measured
        self._range_ms = range_ms
        self._watch = watch
        self._begun = False  # something may be in the table
        # Closed while there is training: a device is held to measure, and no longer.
        with bench_of_table(table, device) as (opened, bench):
            opened.target.require(bench.target, str(opened.path))

    def run(self, first: Candidate, go_on: GoOn) -> Kept:
        """Measure ``first``; while that is over the budget, or far below, what ``go_on`` makes.

        A device or a table that is lost ends it with what is known, for training was long: the
        notes say so. Raises what ``go_on`` raises.
        """
        measured = self._measured
        measured.stated_percent = first.stated_percent
        self._until = time.monotonic() + self._watch.budget_seconds
        try:
            last, iterations, why = self._iterate(first, go_on)
        finally:  # also what was measured before it was interrupted
            taught = self._teach()
        found = self._slowest_kept() or (*measured.over(), last)[0]
        # What the first would have come to is known only where it is the one.
        cost = 0.0 if keeps(found) and found.architecture == first.architecture else None
        return Kept(
            found, measured.closed_loop(iterations, cost), (*measured.said(), *why, *taught)
        )

    def _iterate(self, first: Candidate, go_on: GoOn) -> tuple[Candidate, int, tuple[str, ...]]:
        """The last candidate, how many were to be measured, and why no more of them were."""
        candidate, disturbed = first, 0
        for number in range(1, ITERATIONS + 1):
            try:
                candidate = self._tried(candidate, 2 + disturbed)
            except (DeviceError, TableError) as error:
                return candidate, number, (f"measuring ended early: {error}",)
            if candidate.verified is None:
                return candidate, number, ("measuring ended early: the last one was not reached",)
            if candidate.verified.within_budget and candidate.verified.flags:
                disturbed += 1  # which is no reason to train
                continue
            disturbed, limit_ms = 0, self._next_ms(number)
            if limit_ms is None or number == ITERATIONS:
                break
            candidate = go_on(limit_ms)
            if candidate.architecture.key in self._measured:
                break  # it came to the same
        return candidate, number, ()

    def _tried(self, candidate: Candidate, times: int) -> Candidate:
        """The candidate as it was measured, ``times`` as often where that may show it kept."""
        candidate = self._measure(candidate, NETWORK_PROTOCOL)
        if self._measured.may_keep(candidate):
            candidate = self._measure(candidate, in_visits(times))
        return candidate

    def _measure(self, candidate: Candidate, protocol: TimingProtocol) -> Candidate:
        """With what was measured of it so far; there may be no time left."""
        left = self._until - time.monotonic()
        if left <= 0.0:
            return self._measured.as_measured(candidate)
        self._begun = True
        watch = replace(self._watch, budget_seconds=left)
        with bench_of_table(self._table, self._device) as (table, bench):
            self._measured.measure(bench, table, [candidate], protocol, watch)
        return self._measured.as_measured(candidate)

    def _next_ms(self, iteration: int) -> float | None:
        """The limit on predictions with which to go on; None where it is to end.

        Lower after what is over the budget: boldly after the first iteration, at last as cautious
        as asked. Once there is one that keeps the budget, bold, while too much is unused.
        """
        measured, best = self._measured, self._slowest_kept()
        share = 0.0 if best else iteration / (ITERATIONS - 1)
        limits_ms = [measured.limit_ms(share * measured.deviations)]
        # No higher than what those that are over the budget would have needed.
        limits_ms += [
            each.predicted_ms * measured.budget_ms / each.verified.upper_ms
            for each in measured.over()
            if each.verified is not None
        ]
        limit_ms = min(limits_ms)
        fastest_ms, slowest_ms = self._range_ms
        if best is None:
            tried_ms = min(each.predicted_ms for each in measured.all())
            return limit_ms if tried_ms > (1.0 + _LITTLE) * fastest_ms else None
        used_ms = (1.0 + _LITTLE) * best.predicted_ms
        enough = measured.unused(best) <= _UNUSED or min(limit_ms, slowest_ms) <= used_ms
        return None if enough else limit_ms

    def _slowest_kept(self) -> Candidate | None:
        """Of those that keep the budget the one that uses most of it: accuracies are not known."""
        return max(
            self._measured.kept(),
            key=lambda each: each.verified.measured_ms if each.verified else 0.0,
            default=None,
        )

    def _teach(self) -> tuple[str, ...]:
        """Remarks on what the table learnt, or could not."""
        if not self._begun:
            return ()
        try:
            with opened_table(self._table, write=True) as table:
                return teach(table, self._measured.space)
        except TableError as error:
            return (f"the table's calibration is as it was: {error}",)
