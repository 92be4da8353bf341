"""What a search found, with where every number comes from; a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lutra.emitters.emission import Emission
from lutra.errors import NotATableError, ResultError, UsageError
from lutra.files import read_json, write_atomically
from lutra.files.kinds import RESULT, RESULT_FORMAT, is_there
from lutra.profiler.bench import emission_of
from lutra.search.fields import Fields
from lutra.spaces import Architecture, SearchSpace, get_space, parse_architecture
from lutra.tables import Target

VERSION = 2
"""1 has no other tables, objectives and memory; it is still read."""

_VERSIONS = (1, VERSION)


@dataclass(frozen=True)
class Predicted:
    """What one table says of a candidate, in ms; the interval is None where no error is known."""

    latency_ms: float
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True)
class OtherTable:
    """A table that was asked beside the one searched: its file, target, and limit in ms if any."""

    table: str
    target: Target
    limit_ms: float | None


@dataclass(frozen=True)
class Verified:
    """A candidate's latency measured end to end, in ms; ``error_percent`` is the prediction's.

    ``measured_ms`` and its interval are in the state of the machine that the table speaks of, to
    which networks that the table knows brought it; ``raw_ms`` is what the file takes now.
    """

    measured_ms: float
    raw_ms: float
    ci_low_ms: float
    ci_high_ms: float
    within_budget: bool | None
    error_percent: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """A candidate's top-1 in percent on ``evaluated_images`` images, with the supernet's weights.

    With the 95 % interval of its accuracy on more such images.
    """

    measured_accuracy: float
    accuracy_low: float
    accuracy_high: float
    evaluated_images: int


@dataclass(frozen=True)
class Candidate:
    """One architecture that was found, with its predictions (ms, percent, counts).

    ``predicted_ms`` is by the table that was searched, ``elsewhere`` by each other one's path;
    ``memory_bytes`` is peak activation memory (None in results of before).
    """

    architecture: Architecture
    predicted_ms: float
    predicted_low_ms: float | None
    predicted_high_ms: float | None
    accuracy: float
    macs: int
    params: int
    verified: Verified | None = None
    evaluated: Evaluated | None = None
    memory_bytes: int | None = None
    elsewhere: dict[str, Predicted] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `from_json` reads.

        With ``measured_ms`` once verified, ``measured_accuracy`` once evaluated.
        """
        document = asdict(self)
        document["architecture"] = self.architecture.to_json()
        for part in ("verified", "evaluated"):
            document.update(document.pop(part) or {})
        return document

    @classmethod
    def from_json(cls, fields: Fields, space: SearchSpace) -> Candidate:
        """Read a stored candidate; raises `ResultError`."""
        return cls(
            _architecture(fields, space),
            fields.positive("predicted_ms"),
            fields.positive_or_none("predicted_low_ms"),
            fields.positive_or_none("predicted_high_ms"),
            fields.number("accuracy", 0.0, 100.0),
            fields.whole("macs"),
            fields.whole("params"),
            _verified(fields) if "measured_ms" in fields else None,
            _evaluated(fields) if "measured_accuracy" in fields else None,
            fields.whole_or_none("memory_bytes") if "memory_bytes" in fields else None,
            _elsewhere(fields) if "elsewhere" in fields else {},
        )


@dataclass(frozen=True)
class SearchResult:
    """The best candidates (at least one, best first) and the question they answer.

    ``limits`` maps a cost's name (``latency_ms``, ``macs``, ``params``, ``memory_bytes``) to its
    maximum; ``other_tables`` have limits of their own. With ``objectives`` (``accuracy``,
    ``latency``, ...) the candidates are a front: none is better than another in all of them.
    ``reference_ms`` is what the references took when the table was made, and ``anchors_ms`` some
    of its networks, by their keys: measured again beside what is verified, they tell how the
    machine has changed.

    >>> result = SearchResult.read("result.json")
    >>> result.best.accuracy > 70, result.limits
    (True, {'latency_ms': 5.0})
    """

    space: str
    target: Target
    table: str
    limits: dict[str, float]
    algorithm: str
    seed: int
    hyperparameters: dict[str, Any]
    evaluations: int
    cpu_seconds: float
    accuracy_source: dict[str, Any]
    candidates: tuple[Candidate, ...]
    reference_ms: dict[str, float]
    anchors_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    other_tables: tuple[OtherTable, ...] = ()
    objectives: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate:
        """The most accurate candidate: as measured, where candidates were evaluated."""
        return self.candidates[0]

    @property
    def emission(self) -> Emission:
        """How models are made for the target: the format, precision and batch of its numbers."""
        return emission_of(self.target)

    def to_json(self) -> dict[str, Any]:
        """The document that `from_json` reads; the best candidate's fields stand at its top."""
        return {
            "format": RESULT_FORMAT,
            "version": VERSION,
            "space": self.space,
            **self.best.to_json(),
            "evaluations": self.evaluations,
            "cpu_seconds": self.cpu_seconds,
            "seed": self.seed,
            "algorithm": self.algorithm,
            "settings": self.hyperparameters,
            "limits": self.limits,
            "table": self.table,
            "target": self.target.to_json(),
            "other_tables": [asdict(other) for other in self.other_tables],
            "objectives": list(self.objectives),
            "accuracy_source": self.accuracy_source,
            "reference_ms": self.reference_ms,
            "anchors_ms": self.anchors_ms,
            "notes": list(self.notes),
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }

    @classmethod
    def from_json(cls, document: object, where: str) -> SearchResult:
        """Read a stored result; raises `ResultError` that says what is wrong and ``where``."""
        if not isinstance(document, Mapping) or document.get("format") != RESULT_FORMAT:
            raise ResultError(f"{where} is no search result; `lutra search ... -o FILE` makes one")
        fields = Fields(document, where)
        version = fields.whole("version")
        if version not in _VERSIONS:
            known = " and ".join(map(str, _VERSIONS))
            raise ResultError(f"{where} is of version {version}; this lutra reads {known}")
        space = _space(fields)
        other_tables = _other_tables(fields) if version > 1 else ()
        return cls(
            space=space.name,
            target=_target(fields),
            table=fields.text("table"),
            limits=fields.positives("limits"),
            algorithm=fields.text("algorithm"),
            seed=fields.whole("seed"),
            hyperparameters=fields.kept("settings"),
            evaluations=fields.whole("evaluations"),
            cpu_seconds=fields.number("cpu_seconds", 0.0),
            accuracy_source=fields.kept("accuracy_source"),
            candidates=_candidates(fields, space, other_tables),
            reference_ms=fields.positives("reference_ms"),
            anchors_ms=_anchors(fields, space),
            notes=fields.texts("notes"),
            other_tables=other_tables,
            objectives=fields.texts("objectives") if version > 1 else (),
        )

    @classmethod
    def read(cls, path: str | Path) -> SearchResult:
        """The result in a file; raises `ResultError`."""
        return cls.from_json(read_json(Path(path)), str(path))

    def write(self, path: str | Path, *, over: SearchResult | None = None) -> None:
        """Write the result so that the file is old or new, never half.

        ``over`` is what the file held when this one was begun: one that somebody changed since, and
        did not remove, is left to them. Raises `ResultError`, and `UsageError` where a file is that
        is no search result.
        """
        path = Path(path)
        if over is not None and not _still_holds(path, over):
            raise ResultError(
                f"{path} was changed by another program meanwhile and is left as it is; run the"
                " command again to have this in it too"
            )
        data = (json.dumps(self.to_json(), indent=2) + "\n").encode()
        write_atomically(path, data, kind=RESULT)


def _still_holds(path: Path, result: SearchResult) -> bool:
    try:
        return SearchResult.read(path) == result
    except ResultError:
        return not is_there(path)


def read_found(path: str | Path, space: str | None = None) -> tuple[Architecture, Emission]:
    """The architecture in a JSON file, and how its model file is made.

    The file is a search result (its best candidate, made as its table's models were) or one of
    OFA's dictionaries (made as `Emission` has it by default). ``space`` is the space that it must
    be of, where that is known. Raises `ResultError`, and `UsageError` for a resolution that the
    space does not have.
    """
    document, emission = read_json(Path(path)), Emission()
    if isinstance(document, Mapping) and document.get("format") == RESULT_FORMAT:
        result = SearchResult.from_json(document, str(path))
        document, emission = result.best.architecture.to_json(), result.emission
    try:
        architecture = parse_architecture(document, space)
        get_space(architecture.space).encode(architecture)
    except (ResultError, UsageError) as error:
        raise type(error)(f"{path}: {error}") from error
    return architecture, emission


def _space(fields: Fields) -> SearchSpace:
    try:
        return get_space(fields.text("space"))
    except UsageError as error:
        fields.refuse("space", f"names no space: {error}")


def _target(fields: Fields) -> Target:
    try:
        target = Target.from_json(fields.value("target"))
        emission_of(target)
    except (NotATableError, UsageError) as error:
        fields.refuse("target", f"is damaged: {error}")
    return target


def _architecture(fields: Fields, space: SearchSpace) -> Architecture:
    try:
        architecture = parse_architecture(fields.value("architecture"), space.name)
        space.encode(architecture)
    except (ResultError, UsageError) as error:
        fields.refuse("architecture", f"is of no use: {error}")
    return architecture


def _verified(fields: Fields) -> Verified:
    return Verified(
        measured_ms=fields.positive("measured_ms"),
        raw_ms=fields.positive("raw_ms" if "raw_ms" in fields else "measured_ms"),
        ci_low_ms=fields.positive("ci_low_ms"),
        ci_high_ms=fields.positive("ci_high_ms"),
        within_budget=fields.truth("within_budget"),
        error_percent=fields.number("error_percent"),
        flags=fields.texts("flags"),
    )


def _evaluated(fields: Fields) -> Evaluated:
    return Evaluated(
        measured_accuracy=fields.number("measured_accuracy", 0.0, 100.0),
        accuracy_low=fields.number("accuracy_low", 0.0, 100.0),
        accuracy_high=fields.number("accuracy_high", 0.0, 100.0),
        evaluated_images=fields.whole("evaluated_images"),
    )


def _candidates(
    fields: Fields, space: SearchSpace, other_tables: tuple[OtherTable, ...]
) -> tuple[Candidate, ...]:
    found = tuple(Candidate.from_json(item, space) for item in fields.each("candidates"))
    if not found:
        fields.refuse("candidates", "holds no candidates")
    paths = {other.table for other in other_tables}
    if any(set(candidate.elsewhere) != paths for candidate in found):
        fields.refuse("candidates", "do not say what each of 'other_tables' predicts of them")
    return found


def _elsewhere(fields: Fields) -> dict[str, Predicted]:
    return {
        path: Predicted(
            inner.positive("latency_ms"),
            inner.positive_or_none("low_ms"),
            inner.positive_or_none("high_ms"),
        )
        for path, inner in fields.entries("elsewhere").items()
    }


def _other_tables(fields: Fields) -> tuple[OtherTable, ...]:
    return tuple(
        OtherTable(item.text("table"), _target(item), item.positive_or_none("limit_ms"))
        for item in fields.each("other_tables")
    )


def _anchors(fields: Fields, space: SearchSpace) -> dict[str, float]:
    """Networks of the space by their keys, and their milliseconds; none in older results."""
    anchors_ms = fields.positives("anchors_ms") if "anchors_ms" in fields else {}
    for key in anchors_ms:
        try:
            known = space.from_key(key) is not None
        except (ResultError, UsageError) as error:
            fields.refuse("anchors_ms", f"holds what is no network: {error}")
        if not known:
            fields.refuse("anchors_ms", f"holds a network of another space than {space.name}")
    return anchors_ms
