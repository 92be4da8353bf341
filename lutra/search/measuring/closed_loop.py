"""Search until what was found keeps its budget when it is measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lutra.errors import InfeasibleError, UsageError
from lutra.profiler.bench import DeviceOrSpec, bench_of_table
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.search.measuring.at_precisions import best_kept, joined
from lutra.search.measuring.caution import CONFIDENCE
from lutra.search.measuring.loop import Loop, OnResult
from lutra.search.precisions import Choice, Loss, choices_of, search_each
from lutra.search.question import TableOrPath
from lutra.search.result import SearchResult

CANDIDATES = 6  # measured in an iteration
ITERATIONS = 4
_LEAST_CONFIDENCE, _MOST_CONFIDENCE, _ROUNDING = 0.5, 0.999, 1e-9


def find_within_budget(
    table: TableOrPath,
    max_latency_ms: float | None,
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
    require_sane(confidence)
    if candidates < 1 or iterations < 1:
        raise UsageError("at least one candidate must be measured, in at least one iteration")
    if max_latency_ms is None:
        raise UsageError("name the budget that is to be kept, such as max_latency_ms=20.0")
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
            loop = Loop(
                bench, opened, budget_ms, confidence, candidates, left, own, best_kept(done)
            )
            plain.append(loop.proposed)
            loop.run(iterations, lambda found: on_result(joined([*done, found], max(plain))))
            return loop.result

    return search_each(choices, keep, lambda found: joined(found, max(plain)))


def require_kept(result: SearchResult) -> None:
    """Raise `InfeasibleError` where `find_within_budget` measured nothing that keeps the budget."""
    if result.closed_loop is not None and not result.closed_loop.kept:
        said = "; ".join(result.notes[:2])
        raise InfeasibleError(f"{said}; the same again goes on with what is known")


def require_sane(confidence: float) -> None:
    """Raise `UsageError` for a confidence that no budget can be kept with."""
    if not _LEAST_CONFIDENCE <= confidence <= _MOST_CONFIDENCE + _ROUNDING:
        raise UsageError(
            f"a confidence of {confidence:g} is not from {_LEAST_CONFIDENCE:g} to"
            f" {_MOST_CONFIDENCE:g}"
        )
