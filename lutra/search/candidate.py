"""One architecture that a search found: what is predicted of it, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lutra.errors import ResultError, UsageError
from lutra.files.fields import Fields
from lutra.predictors.efficiency.basis import Basis, RowShare
from lutra.spaces import Architecture, SearchSpace, parse_architecture

NEAR_EQUAL = 0.02  # points of accuracy, within which the surer prediction is preferred
BASIS_ROWS = 3  # that a candidate tells of


@dataclass(frozen=True)
class Predicted:
    """What one table says of a candidate, in ms; the interval is None where no error is known."""

    latency_ms: float
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True)
class Verified:
    """A candidate's latency measured end to end, in ms; ``error_percent`` is the prediction's.

    ``measured_ms`` and its interval are in the state of the machine that the table speaks of, to
    which networks that the table knows brought it; ``raw_ms`` is what the file takes now. A process
    that runs the network takes at most ``upper_ms``, with 95 % confidence or the one asked for:
    that is ``within_budget``, or is not. Of a closed loop's candidates it is by what the others
    took, too: the fastest of many was also lucky.
    """

    measured_ms: float
    raw_ms: float
    ci_low_ms: float
    ci_high_ms: float
    upper_ms: float
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
class MeasuredMemory:
    """What a process grew by at most for a candidate, in bytes, weights and the runtime's own too.

    ``measured_memory_bytes`` from before the model is loaded to the end, ``running_memory_bytes``
    while it runs: None where the device does not tell. ``model_file_bytes`` is nearly all weights.
    """

    measured_memory_bytes: int | None
    running_memory_bytes: int | None
    model_file_bytes: int


@dataclass(frozen=True)
class Candidate:
    """One architecture that was found, with its predictions (ms, percent, counts).

    ``predicted_ms`` is by the table that was searched, of ``precision``, ``elsewhere`` by each
    other one's path; ``accuracy`` is less what the precision costs, where that was said;
    ``memory_bytes`` is peak activation memory. ``basis`` says what the interval rests on, by the
    `BASIS_ROWS` rows whose errors weigh most. Results of before have none of these three.
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
    precision: str | None = None
    basis: Basis | None = None
    memory: MeasuredMemory | None = None

    @property
    def stated_percent(self) -> float | None:
        """Within which the prediction is said to lie; None where no error is known."""
        if self.predicted_high_ms is None:
            return None
        return 100.0 * (self.predicted_high_ms / self.predicted_ms - 1.0)

    @property
    def unsure_percent(self) -> float:
        """How unsure the prediction is: what is stated, and this network's own rows beside it.

        For comparing candidates: what is stated is of networks with rows as sure as usual.
        """
        rows_percent = self.basis.rows_percent if self.basis else 0.0
        return math.hypot(self.stated_percent or 0.0, rows_percent)

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `from_json` reads.

        With ``measured_ms`` once verified, ``measured_accuracy`` once evaluated, and
        ``measured_memory_bytes`` once that was measured.
        """
        document = asdict(self)
        if self.basis is not None:  # a list, as JSON has it
            document["basis"]["rows"] = list(document["basis"]["rows"])
        document["architecture"] = self.architecture.to_json()
        for part in ("verified", "evaluated", "memory"):
            document.update(document.pop(part) or {})
        return document

    def numbers(self) -> dict[str, Any]:
        """All of `to_json` but the architecture and rows, flat."""
        record = self.to_json()
        del record["architecture"]
        basis = record.pop("basis") or {}
        record |= {name: basis.get(name) for name in ("rows_percent", "rest_share")}
        if "flags" in record:
            record["flags"] = ",".join(record["flags"])
        for table, predicted in record.pop("elsewhere").items():
            record |= {f"{name} on {table}": value for name, value in predicted.items()}
        return record

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
            _text_or_none(fields, "precision"),
            _basis(fields),
            _memory(fields) if "measured_memory_bytes" in fields else None,
        )


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
        upper_ms=fields.positive("upper_ms" if "upper_ms" in fields else "ci_high_ms"),
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


def _memory(fields: Fields) -> MeasuredMemory:
    return MeasuredMemory(
        measured_memory_bytes=fields.whole_or_none("measured_memory_bytes"),
        running_memory_bytes=fields.whole_or_none("running_memory_bytes"),
        model_file_bytes=fields.whole("model_file_bytes"),
    )


def surest_first(candidates: Sequence[Candidate], points: float) -> tuple[Candidate, ...]:
    """Those within so many points of the most accurate by how sure they are, then the others."""
    least = max(each.accuracy for each in candidates) - points
    near = [each for each in candidates if each.accuracy >= least]
    rest = [each for each in candidates if each.accuracy < least]
    return (*sorted(near, key=lambda each: each.unsure_percent), *rest)


def _text_or_none(fields: Fields, name: str) -> str | None:
    known = name in fields and fields.value(name) is not None
    return fields.text(name) if known else None


def _basis(fields: Fields) -> Basis | None:
    if "basis" not in fields or fields.value("basis") is None:
        return None
    stored = fields.inner("basis")
    rows = tuple(
        RowShare(
            item.text("key"),
            item.positive("latency_ms"),
            item.number("half_width_percent", 0.0),
            item.whole("visits"),
            _share(item, "share"),
        )
        for item in stored.each("rows")
    )
    return Basis(rows, stored.number("rows_percent", 0.0), _share(stored, "rest_share"))


def _share(fields: Fields, name: str) -> float | None:
    return None if fields.value(name) is None else fields.number(name, 0.0, 1.0)


def _elsewhere(fields: Fields) -> dict[str, Predicted]:
    return {
        path: Predicted(
            inner.positive("latency_ms"),
            inner.positive_or_none("low_ms"),
            inner.positive_or_none("high_ms"),
        )
        for path, inner in fields.entries("elsewhere").items()
    }
