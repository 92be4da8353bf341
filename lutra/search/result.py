"""What a search found, with where every number comes from; a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lutra.emitters.emission import Emission
from lutra.errors import NotATableError, ResultError, UsageError
from lutra.files import read_json, write_atomically
from lutra.files.fields import Fields
from lutra.files.kinds import RESULT, RESULT_FORMAT, TORCH_FILE, is_of_kind, is_there
from lutra.profiler.bench import emission_of
from lutra.search.candidate import Candidate
from lutra.spaces import Architecture, SearchSpace, get_space, parse_architecture
from lutra.tables import Target

if TYPE_CHECKING:
    import pandas

VERSION = 2
"""1 has no other tables, objectives and memory; it is still read."""

_VERSIONS = (1, VERSION)

_RESULT_NEEDED = "a search's result (`lutra search ... -o FILE`)"


@dataclass(frozen=True)
class OtherTable:
    """A table that was asked beside the one searched: its file, target, and limit in ms if any."""

    table: str
    target: Target
    limit_ms: float | None


@dataclass(frozen=True)
class Alternative:
    """A table of another precision that was searched too, with what `verify` needs of it."""

    table: str
    target: Target
    reference_ms: dict[str, float]
    anchors_ms: dict[str, float]


@dataclass(frozen=True)
class ClosedLoop:
    """How a search went that measured its candidates: ``kept`` of ``measured`` keep the budget.

    ``accuracy_cost`` is by how many points what it found is less accurate, as predicted, than what
    a search that measures nothing proposes; None where nothing was found, or what was proposed was
    not trained to its end (single-path search). ``margin_percent`` is how
    far below the budget predictions must be for ``confidence``, as far as was known at the end.
    """

    confidence: float
    iterations: int
    measured: int
    kept: int
    accuracy_cost: float | None
    margin_percent: float

    @classmethod
    def from_json(cls, fields: Fields) -> ClosedLoop:
        """Read a stored one; raises `ResultError`."""
        cost = fields.value("accuracy_cost")
        return cls(
            confidence=fields.number("confidence", 0.0, 1.0),
            iterations=fields.whole("iterations"),
            measured=fields.whole("measured"),
            kept=fields.whole("kept"),
            accuracy_cost=None if cost is None else fields.number("accuracy_cost"),
            margin_percent=fields.number("margin_percent"),
        )


@dataclass(frozen=True)
class SearchResult:
    """The best candidates (at least one, best first) and the question they answer.

    ``alternatives`` are the tables of other precisions that were searched too: each candidate says
    of which precision it is, and its predictions are by that table (`at`). ``accuracy_loss`` are
    the points that a precision costs, which are taken off its candidates' accuracy.

    ``limits`` maps a cost's name (``latency_ms``, ``macs``, ``params``, ``memory_bytes``) to its
    maximum; ``other_tables`` have limits of their own. With ``objectives`` (``accuracy``,
    ``latency``, ...) the candidates are a front: none is better than another in all of them.
    ``reference_ms`` is what the references took when the table was made, and ``anchors_ms`` some
    of its networks, by their keys: measured again beside what is verified, they tell how the
    machine has changed.

    >>> result = SearchResult.read("result.json")
    >>> result.best.accuracy > 70, result.limits
    (True, {'latency_ms': 5.0})
    >>> bool((result.to_frame().predicted_ms <= 5.0).all())
    True
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
    closed_loop: ClosedLoop | None = None
    notes: tuple[str, ...] = field(default=())
    other_tables: tuple[OtherTable, ...] = ()
    objectives: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    accuracy_loss: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Candidate:
        """The first candidate: the most accurate, as measured where candidates were evaluated.

        Where robust ones were asked for, the surest of those about as accurate.
        """
        return self.candidates[0]

    @property
    def emission(self) -> Emission:
        """How the best one's model is made: the format, precision and batch of its table."""
        return emission_of(self.at(self.best.precision).target)

    def at(self, precision: str | None) -> SearchResult:
        """The result as of the one table of a candidate's precision, with all candidates."""
        for other in self.alternatives:
            if other.target.precision == precision:
                return replace(
                    self,
                    table=other.table,
                    target=other.target,
                    reference_ms=other.reference_ms,
                    anchors_ms=other.anchors_ms,
                )
        return self

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
            "alternatives": [asdict(other) for other in self.alternatives],
            "accuracy_loss": self.accuracy_loss,
            "accuracy_source": self.accuracy_source,
            "reference_ms": self.reference_ms,
            "anchors_ms": self.anchors_ms,
            "closed_loop": None if self.closed_loop is None else asdict(self.closed_loop),
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
        target, alternatives = _target(fields), _alternatives(fields, space)
        precisions = {target.precision, *(other.target.precision for other in alternatives)}
        return cls(
            space=space.name,
            target=target,
            table=fields.text("table"),
            limits=fields.positives("limits"),
            algorithm=fields.text("algorithm"),
            seed=fields.whole("seed"),
            hyperparameters=fields.kept("settings"),
            evaluations=fields.whole("evaluations"),
            cpu_seconds=fields.number("cpu_seconds", 0.0),
            accuracy_source=fields.kept("accuracy_source"),
            candidates=_candidates(fields, space, other_tables, precisions),
            reference_ms=fields.positives("reference_ms"),
            anchors_ms=_anchors(fields, space),
            closed_loop=_closed_loop(fields),
            notes=fields.texts("notes"),
            other_tables=other_tables,
            objectives=fields.texts("objectives") if version > 1 else (),
            alternatives=alternatives,
            accuracy_loss=_losses(fields),
        )

    def to_frame(self) -> pandas.DataFrame:
        """The candidates as pandas, best first: one row each, genes and predictions as columns.

        Numbers have the names that they have in JSON (latencies in ms, accuracies in percent); what
        was verified and evaluated has columns where any was. Then come `Architecture.genes`.

        >>> frame = SearchResult.read("result.json").to_frame()
        >>> frame[["accuracy", "predicted_ms", "macs", "r", "ks_0", "d_4"]].shape
        (10, 6)
        """
        import pandas

        numbers = pandas.DataFrame([candidate.numbers() for candidate in self.candidates])
        genes = [candidate.architecture.genes() for candidate in self.candidates]
        return numbers.join(pandas.DataFrame(genes))

    @classmethod
    def read(cls, path: str | Path) -> SearchResult:
        """The result in a file; raises `ResultError`."""
        return cls.from_json(read_json(Path(path), needed=_RESULT_NEEDED), str(path))

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
    """The architecture in a file, and how its model file is made.

    The file is a search result (its best candidate, made as its table's models were) or, made as
    `Emission` has it by default, one of OFA's dictionaries or one network's weights. ``space`` is
    the space that it must be of, where that is known. Raises `ResultError`, `CheckpointError`, and
    `UsageError` for a resolution that the space does not have.
    """
    networks, emission = _read_networks(path, space)
    return networks[0], emission


def read_networks(path: str | Path, space: str | None = None) -> list[Architecture]:
    """All networks in a file, as `read_found` reads them: of a result every candidate."""
    return _read_networks(path, space)[0]


def _read_networks(path: str | Path, space: str | None) -> tuple[list[Architecture], Emission]:
    document, emission = _document(Path(path)), Emission()
    documents = [document]
    if isinstance(document, Mapping) and document.get("format") == RESULT_FORMAT:
        result = SearchResult.from_json(document, str(path))
        documents = [each.architecture.to_json() for each in result.candidates]
        emission = result.emission
    try:
        networks = [parse_architecture(each, space) for each in documents]
        for network in networks:
            get_space(network.space).encode(network)
    except (ResultError, UsageError) as error:
        raise type(error)(f"{path}: {error}") from error
    return networks, emission


def _document(path: Path) -> object:
    if not is_of_kind(path, TORCH_FILE):
        return read_json(path, needed=f"{_RESULT_NEEDED}, an architecture's JSON or a network file")
    from lutra.supernets.checkpoints.network import network_in

    return network_in(path).to_json()


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


def _closed_loop(fields: Fields) -> ClosedLoop | None:
    stored = fields.value("closed_loop") if "closed_loop" in fields else None
    return None if stored is None else ClosedLoop.from_json(fields.inner("closed_loop"))


def _candidates(
    fields: Fields,
    space: SearchSpace,
    other_tables: tuple[OtherTable, ...],
    precisions: set[str],
) -> tuple[Candidate, ...]:
    found = tuple(Candidate.from_json(item, space) for item in fields.each("candidates"))
    if not found:
        fields.refuse("candidates", "holds no candidates")
    paths = {other.table for other in other_tables}
    if any(set(candidate.elsewhere) != paths for candidate in found):
        fields.refuse("candidates", "do not say what each of 'other_tables' predicts of them")
    if not {each.precision for each in found} <= precisions | {None}:
        fields.refuse("candidates", "are of a precision that no table is of")
    return found


def _alternatives(fields: Fields, space: SearchSpace) -> tuple[Alternative, ...]:
    if "alternatives" not in fields:
        return ()
    return tuple(
        Alternative(
            item.text("table"), _target(item), item.positives("reference_ms"), _anchors(item, space)
        )
        for item in fields.each("alternatives")
    )


def _losses(fields: Fields) -> dict[str, float]:
    if "accuracy_loss" not in fields:
        return {}
    losses = fields.kept("accuracy_loss")
    return {name: fields.inner("accuracy_loss").number(name, 0.0, 100.0) for name in losses}


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
