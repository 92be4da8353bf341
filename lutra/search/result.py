"""What a search found, with where every number comes from; a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lutra.emitters.emission import Emission
from lutra.errors import LutraError, NotATableError, ResultError
from lutra.files import read_json, write_atomically
from lutra.profiler.bench import emission_of
from lutra.spaces import Architecture, get_space, parse_architecture
from lutra.tables import Target

FORMAT = "lutra-search-result"
VERSION = 1


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
class Candidate:
    """One architecture that was found, with its predictions (ms, percent, counts)."""

    architecture: Architecture
    predicted_ms: float
    predicted_low_ms: float | None
    predicted_high_ms: float | None
    accuracy: float
    macs: int
    params: int
    verified: Verified | None = None

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `from_json` reads, with ``measured_ms`` once verified."""
        document = asdict(self)
        document["architecture"] = self.architecture.to_json()
        document.update(document.pop("verified") or {})
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], space: str) -> Candidate:
        """Read a stored candidate; raises `ResultError`, `KeyError`, `TypeError`, `ValueError`."""
        verified = None
        if "measured_ms" in document:
            verified = Verified(
                measured_ms=float(document["measured_ms"]),
                raw_ms=float(document.get("raw_ms", document["measured_ms"])),
                ci_low_ms=float(document["ci_low_ms"]),
                ci_high_ms=float(document["ci_high_ms"]),
                within_budget=document["within_budget"],
                error_percent=float(document["error_percent"]),
                flags=tuple(map(str, document["flags"])),
            )
        architecture = parse_architecture(document["architecture"], space)
        get_space(space).encode(architecture)
        return cls(
            architecture,
            float(document["predicted_ms"]),
            _optional(document["predicted_low_ms"]),
            _optional(document["predicted_high_ms"]),
            float(document["accuracy"]),
            int(document["macs"]),
            int(document["params"]),
            verified,
        )


@dataclass(frozen=True)
class SearchResult:
    """The best candidates (at least one, best first) and the question they answer.

    ``limits`` maps a cost's name (``latency_ms``, ``macs``) to its maximum. ``reference_ms`` is
    what the references took when the table was made, and ``anchors_ms`` some of its networks, by
    their keys: measured again beside what is verified, they tell how the machine has changed.

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

    @property
    def best(self) -> Candidate:
        """The most accurate candidate."""
        return self.candidates[0]

    @property
    def emission(self) -> Emission:
        """How models are made for the target: the format, precision and batch of its numbers."""
        return emission_of(self.target)

    def to_json(self) -> dict[str, Any]:
        """The document that `from_json` reads; the best candidate's fields stand at its top."""
        return {
            "format": FORMAT,
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
            "accuracy_source": self.accuracy_source,
            "reference_ms": self.reference_ms,
            "anchors_ms": self.anchors_ms,
            "notes": list(self.notes),
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }

    @classmethod
    def from_json(cls, document: object, where: str) -> SearchResult:
        """Read a stored result; raises `ResultError` that says what is wrong and ``where``."""
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            raise ResultError(f"{where} is no search result; `lutra search ... -o FILE` makes one")
        if document.get("version") != VERSION:
            raise ResultError(
                f"{where} is of version {document.get('version')}; this lutra reads {VERSION}"
            )
        try:
            space = get_space(document["space"]).name
            candidates = [Candidate.from_json(item, space) for item in document["candidates"]]
            return cls(
                space=space,
                target=Target.from_json(document["target"]),
                table=str(document["table"]),
                limits={str(k): float(v) for k, v in document["limits"].items()},
                algorithm=str(document["algorithm"]),
                seed=int(document["seed"]),
                hyperparameters=dict(document["settings"]),
                evaluations=int(document["evaluations"]),
                cpu_seconds=float(document["cpu_seconds"]),
                accuracy_source=dict(document["accuracy_source"]),
                candidates=_at_least_one(candidates),
                reference_ms={str(k): float(v) for k, v in document["reference_ms"].items()},
                anchors_ms=_anchors(document.get("anchors_ms", {})),
                notes=tuple(map(str, document["notes"])),
            )
        except NotATableError as error:
            raise ResultError(f"{where}: its target is damaged") from error
        except LutraError as error:
            raise ResultError(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultError(f"{where} is damaged: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> SearchResult:
        """The result in a file; raises `ResultError`."""
        return cls.from_json(read_json(Path(path)), str(path))

    def write(self, path: str | Path) -> None:
        """Write the result so that the file is old or new, never half; raises `ResultError`."""
        write_atomically(Path(path), (json.dumps(self.to_json(), indent=2) + "\n").encode())


def read_found(path: str | Path, space: str | None = None) -> tuple[Architecture, Emission]:
    """The architecture in a JSON file, and how its model file is made.

    The file is a search result (its best candidate, made as its table's models were) or one of
    OFA's dictionaries (made as `Emission` has it by default). ``space`` is the space that it must
    be of, where that is known. Raises `ResultError`, and `UsageError` for a resolution that the
    space does not have.
    """
    document, emission = read_json(Path(path)), Emission()
    if isinstance(document, Mapping) and document.get("format") == FORMAT:
        result = SearchResult.from_json(document, str(path))
        document, emission = result.best.architecture.to_json(), result.emission
    architecture = parse_architecture(document, space)
    get_space(architecture.space).encode(architecture)
    return architecture, emission


def _at_least_one(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    if not candidates:
        raise ValueError("it holds no candidates")
    return tuple(candidates)


def _anchors(document: Mapping[str, Any]) -> dict[str, float]:
    """Networks and their milliseconds; raises for what is none, like the rest of a document."""
    for key in document:
        architecture = parse_architecture(json.loads(key))
        get_space(architecture.space).encode(architecture)
    return {key: float(value) for key, value in document.items()}


def _optional(value: float | None) -> float | None:
    return None if value is None else float(value)
