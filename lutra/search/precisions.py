"""A network's precision as one more choice: each precision's table is searched, the best are taken.

Precision is chosen per network. What a precision costs in accuracy is the same for all of them, so
the best of each precision's best is the best of all, and what is proved stays proved.
"""

# docs/decisions.md: Precision by network

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lutra.errors import InfeasibleError, ResultError, TableError, TargetMismatchError, UsageError
from lutra.files import read_json
from lutra.files.fields import Fields
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.algorithms.base import INTERRUPTED, OnStep
from lutra.search.candidate import Candidate
from lutra.search.question import TableOrPath
from lutra.search.result import Alternative, SearchResult
from lutra.spaces import SearchSpace
from lutra.tables import opened_table

_PREDICTED = "fp32"  # what accuracy predictors speak of
# What tables of several precisions have in common: not the core nor a version, which time changes.
_COMMON = ("device", "device_model", "architecture", "device_cores", "runtime", "threads", "batch")

Loss = float | tuple[str | Path, str | Path]
"""Points of top-1, or two files of ``lutra evaluate --json``: of fp32 and of the precision."""


@dataclass(frozen=True)
class Choice:
    """A table to search, and what its precision costs in points; None where nobody said."""

    table: TableOrPath
    precision: str
    loss: float | None

    @property
    def losses(self) -> dict[str, Loss] | None:
        """The loss, as searches of this table alone take it."""
        return None if self.loss is None else {self.precision: self.loss}


def choices_of(
    table: TableOrPath,
    alternatives: Sequence[TableOrPath],
    losses: Mapping[str, Loss],
    space: SearchSpace | str | None,
) -> tuple[Choice, ...]:
    """The tables, each of another precision of one device, runtime and space.

    Raises `UsageError` for two of one precision, a loss that is lacking or of no table's
    precision, `TargetMismatchError` where more than the precision differs, `TableError` for one
    that is not calibrated, and `ResultError` for a file that does not tell an accuracy.
    """
    points = {precision: _points(precision, loss) for precision, loss in losses.items()}
    predictors = [EfficiencyPredictor(table, space)] if alternatives else []
    for other in alternatives:
        predictors.append(EfficiencyPredictor(other, predictors[0].space))
        _require_comparable(predictors)
    if predictors:
        precisions = [predictor.target.precision for predictor in predictors]
    else:
        with opened_table(table) as opened:
            precisions = [opened.target.precision]
    for name in set(points) - set(precisions):
        raise UsageError(
            f"an accuracy loss is given for {name}, and searched is {', '.join(precisions)}"
        )
    if alternatives:
        points.setdefault(_PREDICTED, 0.0)
        for name in set(precisions) - set(points):
            raise UsageError(
                f"what {name} costs in accuracy is not known, so its networks cannot be compared:"
                f" say --accuracy-loss {name}=POINTS, or, of two files of `lutra evaluate --json`,"
                f" --accuracy-loss {name}={_PREDICTED}.json,{name}.json"
            )
    tables = [table, *alternatives]
    return tuple(
        Choice(each, name, points.get(name)) for each, name in zip(tables, precisions, strict=True)
    )


def _require_comparable(predictors: Sequence[EfficiencyPredictor]) -> None:
    """Raise unless the last one is of the first one's device and runtime, and calibrated."""
    first, *others, last = predictors
    here, there = first.target, last.target
    for each in (first, last):
        each.target.require_measurable(str(each.path))
    for known in (first, *others):
        if known.target.precision == there.precision:
            raise UsageError(
                f"{last.path} is of {there.precision}, as {known.path} is: an alternative is of"
                f" another precision (a second table's own limit is --max-latency {last.path}=TIME)"
            )
    differing = [
        f"{name} is '{getattr(there, name)}', not '{getattr(here, name)}'"
        for name in _COMMON
        if getattr(there, name) != getattr(here, name)
    ]
    if differing:
        raise TargetMismatchError(
            f"{last.path} differs from {first.path} in more than precision: {'; '.join(differing)};"
            " `lutra profile DEVICE --precision ...` with the same setting makes one that does not"
        )
    for each in (first, last):
        if not each.calibrated:
            raise TableError(
                f"{each.path} is not calibrated: its plain sums cannot be compared with another"
                f" precision's; run lutra calibrate {each.path}"
            )


def _points(precision: str, loss: Loss) -> float:
    if isinstance(loss, tuple):
        return _measured_points(*loss)
    if not (math.isfinite(loss) and 0.0 <= loss <= 100.0):
        raise UsageError(
            f"{precision} cannot cost {loss:g} points of accuracy: it is a number from 0 to 100"
        )
    return float(loss)


def _measured_points(reference: str | Path, coarse: str | Path) -> float:
    """By how much the second file's accuracy is below the first's; a gain is chance, and nothing.

    Raises `ResultError`, also where they are of other images.
    """
    first, second = (Fields(read_json(Path(path)), str(path)) for path in (reference, coarse))
    for name in ("data", "split", "images"):
        if first.value(name) != second.value(name):
            raise ResultError(
                f"{coarse} is of other images than {reference}: its '{name}' differs; run `lutra"
                " evaluate --json` of both models on the same"
            )
    percents = [fields.number("top1", 0.0, 100.0) for fields in (first, second)]
    return max(0.0, percents[0] - percents[1])


def search_each(
    choices: Sequence[Choice],
    search: Callable[[Choice, Sequence[SearchResult]], SearchResult],
    merge: Callable[[Sequence[SearchResult]], SearchResult],
) -> SearchResult:
    """Search each table, told what was found by those before, and ``merge`` what was found.

    One that cannot meet the limits is left out with a note; `InfeasibleError` where none can.
    """
    found: list[SearchResult] = []
    left_out: list[str] = []
    for place, choice in enumerate(choices):
        try:
            found.append(search(choice, tuple(found)))
        except InfeasibleError as error:
            if len(choices) == 1:
                raise
            left_out.append(f"{choice.precision}: {error}")
            continue
        if INTERRUPTED in found[-1].notes and place + 1 < len(choices):
            left_out.append(f"not searched: {', '.join(c.precision for c in choices[place + 1 :])}")
            break
    if not found:
        raise InfeasibleError("; ".join(left_out))
    result = merge(found)
    return replace(result, notes=(*left_out, *result.notes))


def scaled(on_step: OnStep | None, done: int, searches: int) -> OnStep | None:
    """For one of so many searches, ``done`` of which are: what tells how far all of them are."""
    if on_step is None or searches == 1:
        return on_step
    return lambda step, steps: on_step(done * steps + step, searches * steps)


def merged(results: Sequence[SearchResult], candidates: Sequence[Candidate]) -> SearchResult:
    """One result of several, each of a precision of its own, with ``candidates`` chosen of theirs.

    Notes that not all of them have say of which precision they are.
    """
    first, *others = results
    if not others:
        return replace(first, candidates=tuple(candidates))
    everywhere = [note for note in first.notes if all(note in each.notes for each in others)]
    own = [
        f"{each.target.precision}: {note}"
        for each in results
        for note in (*each.notes, *_resolutions(each, results))
        if note not in everywhere
    ]
    resolutions = sorted({size for each in results for size in each.hyperparameters["resolutions"]})
    return replace(
        first,
        candidates=tuple(candidates),
        hyperparameters={**first.hyperparameters, "resolutions": resolutions},
        evaluations=sum(each.evaluations for each in results),
        cpu_seconds=round(sum(each.cpu_seconds for each in results), 3),
        notes=(*everywhere, *own),
        alternatives=tuple(
            Alternative(each.table, each.target, each.reference_ms, each.anchors_ms)
            for each in others
        ),
        accuracy_loss={name: loss for each in results for name, loss in each.accuracy_loss.items()},
    )


def _resolutions(result: SearchResult, results: Sequence[SearchResult]) -> list[str]:
    """A note where the tables know other resolutions."""
    searched = [each.hyperparameters["resolutions"] for each in results]
    if all(sizes == searched[0] for sizes in searched):
        return []
    sizes = ", ".join(map(str, result.hyperparameters["resolutions"]))
    return [f"searched at {sizes}, which its table knows"]


def best_first(results: Sequence[SearchResult]) -> list[Candidate]:
    """The candidates of all, the most accurate first; of equals the first table's."""
    every = [candidate for each in results for candidate in each.candidates]
    return sorted(every, key=lambda each: -each.accuracy)
