"""What a search is asked, read from its tables before anything is searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError, MissingOpError, TableError, UsageError
from lutra.predictors.accuracy import AccuracyPredictor, load_accuracy
from lutra.predictors.efficiency.memory import PeakCost, memory_cost
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import emission_of
from lutra.profiler.gate import reference_baseline
from lutra.profiler.plan import ANCHORS, evenly
from lutra.search.candidate import Candidate, Predicted
from lutra.search.constraints import Limit, latency_limits, peak_limit
from lutra.search.problem import Problem
from lutra.search.result import OtherTable, SearchResult
from lutra.spaces import Rows, SearchSpace
from lutra.tables import LatencyTable, opened_table
from lutra.tables.measurement import CALIBRATE
from lutra.tables.profiled import read_profiled

TableOrPath = LatencyTable | str | Path


@dataclass(frozen=True, kw_only=True)
class Maxima:
    """The most that networks may take; None where it does not matter.

    ``latency_ms`` is of the table that is searched, ``other_tables`` says it by the paths of others
    (None: they are only predicted with), ``memory_bytes`` is peak activation memory.
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    memory_bytes: float | None = None
    other_tables: Mapping[str | Path, float | None] = field(default_factory=dict)

    def by_name(self) -> dict[str, float]:
        """Those of the searched table and of the networks themselves, as results store them."""
        names = ("latency_ms", "macs", "params", "memory_bytes")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, eq=False)
class Other:
    """Another table that is asked about the same networks."""

    predictor: EfficiencyPredictor
    limit_ms: float | None
    device: str

    @property
    def path(self) -> str:
        return str(self.predictor.path)

    def remedy(self, resolutions: Sequence[int]) -> str:
        """What gives the table the ops of these resolutions."""
        space, sizes = self.predictor.space.name, ",".join(map(str, resolutions))
        if self.predictor.origin is not None:
            return (
                "it was imported, and nothing is measured into it: `lutra table import FILE..."
                f" --space {space} -o NEW.lut` makes one of the files of {sizes} too, if there are"
                " such, or leave this table out"
            )
        return (
            f"`lutra profile {self.device} --space {space} --resolutions {sizes} -o {self.path}`"
            " measures them"
        )


@dataclass(frozen=True, eq=False)
class Question:
    """Tables, accuracy and limits of one space, at the resolutions that all of them know.

    ``notes`` are remarks for people on what was narrowed. `ask` makes it.
    """

    predictor: EfficiencyPredictor
    others: tuple[Other, ...]
    accuracy: AccuracyPredictor
    maxima: Maxima
    resolutions: tuple[int, ...]
    reference_ms: dict[str, float]
    anchors_ms: dict[str, float]
    notes: tuple[str, ...]

    @property
    def space(self) -> SearchSpace:
        """Whose networks are searched."""
        return self.predictor.space

    @cached_property
    def memory(self) -> PeakCost:
        """Peak activation memory at the searched table's precision and batch."""
        emission = emission_of(self.predictor.target)
        return memory_cost(self.space, emission.feature_bytes, emission.batch)

    @cached_property
    def problem(self) -> Problem:
        """The search problem; raises `UsageError` or `AccuracyError`."""
        limits = tuple(self._limits())
        return Problem(self.space, self.accuracy, limits, self.resolutions, self._plain_sums())

    def _plain_sums(self) -> str:
        """What to say of latencies that are limited and not calibrated; nothing where all are."""
        asked = [(self.predictor, self.maxima.latency_ms)]
        asked += [(other.predictor, other.limit_ms) for other in self.others]
        plain = [
            str(predictor.path)
            for predictor, limit_ms in asked
            if limit_ms is not None and not predictor.calibrated
        ]
        if not plain:
            return ""
        return (
            f"latencies of {' and '.join(plain)} are plain sums, not calibrated: networks may take"
            " less, or more"
        )

    def _limits(self) -> list[Limit]:
        limits: list[Limit] = []
        maxima = self.maxima
        if maxima.latency_ms is not None:
            limits += latency_limits(self.predictor.latency, maxima.latency_ms)
        for other in self.others:
            if other.limit_ms is not None:
                latency = other.predictor.latency
                limits += latency_limits(latency, other.limit_ms, f" on {other.path}")
        if maxima.macs is not None:
            limits.append(Limit(self.predictor.macs, maxima.macs))
        if maxima.params is not None:
            limits.append(Limit(self.predictor.params, maxima.params))
        if maxima.memory_bytes is not None:
            limits.append(peak_limit(self.memory, maxima.memory_bytes))
        return limits

    def remarks(self) -> tuple[str, ...]:
        """What a result of this question says of it."""
        stale = self.predictor.staleness(self.resolutions)
        origin = self.predictor.origin
        return (*filter(None, (origin,)), *self.notes, *self._loose(), *filter(None, (stale,)))

    def _loose(self) -> list[str]:
        """A note for each limit that no architecture exceeds."""
        latency, macs, params = self.predictor.latency, self.predictor.macs, self.predictor.params
        at, ms = self.resolutions, latency.forms[0].text
        asked: list[tuple[float | None, Callable[[float], str], Callable[[], float]]] = [
            (self.maxima.latency_ms, ms, lambda: latency.dearest(at)[0]),
            (self.maxima.macs, macs.text, lambda: macs.dearest(at)[0]),
            (self.maxima.params, params.text, lambda: params.dearest(at)[0]),
            (self.maxima.memory_bytes, self.memory.text, lambda: self.memory.most(at)),
        ]
        notes = [
            f"the limit of {text(limit)} does not bind: no subnet exceeds {text(value)}"
            for limit, text, most in asked
            if limit is not None and (value := most()) <= limit
        ]
        for other in self.others:
            most_ms = other.predictor.latency.dearest(at)[0]
            if other.limit_ms is not None and most_ms <= other.limit_ms:
                notes.append(
                    f"the limit of {ms(other.limit_ms)} on {other.path} does not bind: no subnet"
                    f" exceeds {ms(most_ms)}"
                )
        return notes

    def candidates(self, rows: Rows, accuracy: npt.NDArray[np.float64]) -> tuple[Candidate, ...]:
        """Rows (N, genes) and their accuracy in percent (N,), with every table's predictions."""
        memory = self.memory.of(rows)
        return tuple(
            self._candidate(row, float(percent), int(peak))
            for row, percent, peak in zip(rows, accuracy, memory, strict=True)
        )

    def _candidate(self, row: npt.NDArray[np.int16], accuracy: float, memory: int) -> Candidate:
        architecture = self.space.decode(row)
        found = self.predictor.predict_one(architecture)
        elsewhere = {}
        for other in self.others:
            there = other.predictor.predict_one(architecture)
            elsewhere[other.path] = Predicted(there.latency_ms, there.low_ms, there.high_ms)
        return Candidate(
            architecture,
            found.latency_ms,
            found.low_ms,
            found.high_ms,
            accuracy,
            found.macs,
            found.params,
            memory_bytes=memory,
            elsewhere=elsewhere,
        )

    def result(
        self,
        candidates: tuple[Candidate, ...],
        *,
        algorithm: str,
        seed: int,
        settings: Mapping[str, Any],
        evaluations: int,
        cpu_seconds: float,
        objectives: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> SearchResult:
        """What was found, by which algorithm and ``settings``, with the question that it answers.

        ``objectives`` are those that the candidates are a front of, ``notes`` what is to be said
        of how good they are.
        """
        return SearchResult(
            space=self.space.name,
            target=self.predictor.target,
            table=str(self.predictor.path),
            limits=self.maxima.by_name(),
            algorithm=algorithm,
            seed=seed,
            hyperparameters={**settings, "resolutions": list(self.resolutions)},
            evaluations=evaluations,
            cpu_seconds=round(cpu_seconds, 3),
            accuracy_source={
                "name": self.accuracy.name,
                "provenance": self.accuracy.provenance,
                "quality": self.accuracy.quality,
            },
            candidates=candidates,
            reference_ms=self.reference_ms,
            anchors_ms=self.anchors_ms,
            notes=(*self.remarks(), *notes),
            other_tables=tuple(
                OtherTable(other.path, other.predictor.target, other.limit_ms)
                for other in self.others
            ),
            objectives=objectives,
        )


def ask(
    table: TableOrPath,
    maxima: Maxima,
    *,
    space: SearchSpace | str | None = None,
    accuracy: AccuracyPredictor | str | Path | None = None,
    resolutions: Sequence[int] | None = None,
) -> Question:
    """Read the tables and the accuracy predictor; see `find_networks` for what they may be.

    Raises `TableError` for a table that cannot be read, is of another space or lacks ops,
    `AccuracyError` and `UsageError`.
    """
    with opened_table(table) as opened:
        predictor = EfficiencyPredictor(opened, space)
        reference_ms = reference_baseline(opened)
        anchors_ms = _anchors(opened, predictor.space)
    others = tuple(
        _other(path, limit_ms, predictor) for path, limit_ms in maxima.other_tables.items()
    )
    if not isinstance(accuracy, AccuracyPredictor):
        accuracy = load_accuracy(accuracy, predictor.space)
    searched, notes = searched_resolutions(predictor, accuracy, resolutions, others)
    lacking = tuple(note for other in others if (note := _lacking(other, searched)))
    return Question(
        predictor,
        others,
        accuracy,
        maxima,
        searched,
        reference_ms,
        anchors_ms,
        (*notes, *lacking),
    )


def _other(path: str | Path, limit_ms: float | None, searched: EfficiencyPredictor) -> Other:
    with opened_table(path) as opened:
        if Path(path).resolve() == Path(searched.path).resolve():
            raise UsageError(f"{path} is the table that is searched: it is no other one")
        predictor = EfficiencyPredictor(opened, searched.space)
        return Other(predictor, limit_ms, read_profiled(opened).device or "DEVICE")


def _lacking(other: Other, resolutions: Sequence[int]) -> str | None:
    """A note on ops that the other table lacks, with what gives them to it.

    Networks with such ops are left out by its limit. Raises `MissingOpError` where that leaves
    none, or where there is no limit that would leave them out.
    """
    predictor = other.predictor
    space, (form, *_) = predictor.space, predictor.latency.forms
    needed = space.op_indices_at(resolutions)
    missing = [space.ops[index].key for index in needed if np.isnan(form.prices[index])]
    if not missing:
        return None
    what = (
        f"{other.path} lacks {len(missing)} of the {len(needed)} ops that are searched, such as"
        f" {missing[0]}"
    )
    remedy = other.remedy(resolutions)
    whole = any(
        np.isfinite(space.lattice(resolution).cheapest(form.prices)[0])
        for resolution in resolutions
    )
    if other.limit_ms is None or not whole:
        raise MissingOpError(f"{what}; {remedy}")
    return f"{what}: networks with them are left out; {remedy}"


def _anchors(table: LatencyTable, space: SearchSpace) -> dict[str, float]:
    """A few of the networks that calibrated the table, by key, in ms, from fast to slow."""
    measured = [
        (row.measurement.latency_ms, row.key)
        for row in table.rows("network", CALIBRATE)
        if row.measurement is not None and not row.measurement.flags
    ]
    own = [item for item in sorted(measured) if space.from_key(item[1]) is not None]
    return {key: latency_ms for latency_ms, key in evenly(own, ANCHORS["network"])}


def searched_resolutions(
    predictor: EfficiencyPredictor,
    accuracy: AccuracyPredictor,
    wanted: Sequence[int] | None = None,
    others: Sequence[Other] = (),
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The resolutions to search, and notes where the accuracy predictor or a table narrows them.

    Raises `AccuracyError` or `TableError` where nothing is left.
    """
    if wanted is not None:
        predictor.space.check_resolutions(wanted)
        return tuple(wanted), ()
    common = tuple(r for r in predictor.resolutions if r in accuracy.resolutions)
    if not common:
        raise AccuracyError(
            f"{accuracy.name} knows the accuracy at resolutions {_text(accuracy.resolutions)}, the"
            f" table holds {_text(predictor.resolutions)}; profile one of the former"
            " or pass another --accuracy file"
        )
    notes: tuple[str, ...] = ()
    if common != predictor.resolutions:
        notes = (
            f"searched at {_text(common)} only: {accuracy.name} knows no accuracy at the table's"
            " other resolutions",
        )
    for other in others:
        known = other.predictor.resolutions
        left = tuple(r for r in common if r in known)
        if not left:
            raise TableError(
                f"{other.path} holds resolutions {_text(known)}, and {_text(common)} are searched:"
                f" {other.remedy(common)}"
            )
        if left != common:
            notes += (f"searched at {_text(left)} only: {other.path} holds no others",)
        common = left
    return common, notes


def _text(resolutions: tuple[int, ...]) -> str:
    return ", ".join(map(str, resolutions))
