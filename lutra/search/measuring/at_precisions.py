"""Closed loops of several precisions as one: what keeps the budget at any of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lutra.search.candidate import Candidate
from lutra.search.precisions import best_first, merged
from lutra.search.result import ClosedLoop, SearchResult


def keeps(candidate: Candidate) -> bool:
    """Whether it was measured within its budget, undisturbed."""
    found = candidate.verified
    return found is not None and bool(found.within_budget) and not found.flags


def best_kept(results: Sequence[SearchResult]) -> float:
    """The best accuracy that keeps the budget, in percent; minus infinity where nothing does."""
    kept = [each.accuracy for result in results for each in result.candidates if keeps(each)]
    return max(kept, default=-math.inf)


def joined(results: Sequence[SearchResult], proposed: float) -> SearchResult:
    """One result of each precision's closed loop, in the order of `find_within_budget`.

    ``proposed`` is the accuracy of the best that searches which measure nothing propose. Candidates
    that were not measured are there where none was.
    """
    if len(results) == 1:
        return results[0]
    every = best_first(results)
    kept = [each for each in every if keeps(each)]
    over = sorted(
        (each for each in every if each.verified is not None and not keeps(each)),
        key=lambda each: each.verified.upper_ms if each.verified else math.inf,
    )
    candidates = [*kept, *over] or every
    loops = [result.closed_loop for result in results if result.closed_loop is not None]
    (own,) = (
        result.closed_loop
        for result in results
        if result.target.precision == candidates[0].precision
    )
    assert own is not None
    whole = ClosedLoop(
        confidence=own.confidence,
        iterations=sum(loop.iterations for loop in loops),
        measured=sum(loop.measured for loop in loops),
        kept=len(kept),
        accuracy_cost=proposed - kept[0].accuracy if kept else None,
        margin_percent=own.margin_percent,
    )
    return replace(merged(results, candidates), closed_loop=whole)
