"""Evaluate: the accuracy of what a search found, measured with the supernet itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lutra.errors import UsageError
from lutra.search.candidate import Candidate, Evaluated
from lutra.search.result import SearchResult
from lutra.supernets.accuracy.inherited import InheritedAccuracy

OnStep = Callable[[int, int], None]


def evaluate(
    result: SearchResult | str | Path,
    accuracy: InheritedAccuracy,
    *,
    count: int = 10,
    on_step: OnStep = lambda done, expected: None,
) -> SearchResult:
    """The result, or the one in a file, with its first ``count`` candidates' accuracy measured.

    Those are then ordered by what was measured, at fp32, less what their precisions cost
    (`SearchResult.accuracy_loss`); the others follow. ``on_step`` is told how many
    are done and how many there are. Raises `ResultError` for a file that holds no result,
    `UsageError` for a supernet of another space, and `DataError`.
    """
    if not isinstance(result, SearchResult):
        result = SearchResult.read(result)
    if count < 1:
        return result
    if accuracy.space.name != result.space:
        raise UsageError(
            f"the supernet is of {accuracy.space.name}, what was found is of {result.space}"
        )
    chosen = result.candidates[:count]
    measured = []
    for done, candidate in enumerate(chosen, start=1):
        measured.append(_evaluated(candidate, accuracy))
        on_step(done, len(chosen))
    loss = result.accuracy_loss  # the supernet is run at fp32
    measured.sort(  # stable: of equals the predicted order
        key=lambda each: _measured_accuracy(each) - loss.get(each.precision or "", 0.0),
        reverse=True,
    )
    source = accuracy.source
    weights = "what pruning leaves of weights" if source.criterion else "a supernet"
    note = (
        f"the first {len(measured)} are ordered by their accuracy on {source.images} validation"
        f" images of {source.data}, measured with {weights} (SHA-256 {source.checkpoint[:16]})"
    )
    if any(loss.values()):
        note += " at fp32, less what their precision is said to cost"
    return replace(
        result,
        candidates=(*measured, *result.candidates[count:]),
        notes=(*result.notes, note),
    )


def _evaluated(candidate: Candidate, accuracy: InheritedAccuracy) -> Candidate:
    found = accuracy.of(candidate.architecture)
    low, high = found.interval_percent
    return replace(candidate, evaluated=Evaluated(found.percent, low, high, found.count))


def _measured_accuracy(candidate: Candidate) -> float:
    assert candidate.evaluated is not None
    return candidate.evaluated.measured_accuracy
