"""What a front is over: accuracy, and costs of which less is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lutra.errors import UsageError
from lutra.search.candidate import Candidate
from lutra.search.question import Question
from lutra.spaces import Rows
from lutra.text import did_you_mean

ACCURACY = "accuracy"

Cost = Callable[[Rows], npt.NDArray[np.float64]]

# Each objective's label with its unit, and the field of a candidate that holds it.
_FIELDS = {
    ACCURACY: ("accuracy, %", "accuracy"),
    "latency": ("latency, ms", "predicted_ms"),
    "macs": ("MACs", "macs"),
    "params": ("parameters", "params"),
    "memory": ("peak activation memory, bytes", "memory_bytes"),
}

OBJECTIVES = tuple(_FIELDS)
"""The words for objectives; the path of another table is one too."""


@dataclass(frozen=True, eq=False)
class Objective:
    """One column of a front's matrix.

    ``name`` is its word or the path of another table, and ``of`` (N, genes) -> (N,) its values.
    There is none for accuracy, which is predicted once for all and enters negated: in every column
    less is better.
    """

    name: str
    of: Cost | None


def objectives_of(question: Question, names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of that name: accuracy, latency, macs, params, memory, another table's path.

    Raises `UsageError` for fewer than two, unknown ones, and one that is named twice.
    """
    known = _costs(question)
    chosen: list[Objective] = []
    for name in names:
        key = name if name in known else _path_among(name, known)
        if key not in known:
            raise UsageError(
                f"unknown objective '{name}'; known: {', '.join(known)}, and the tables that"
                f" are searched beside the first{did_you_mean(name, known)}"
            )
        if key in (objective.name for objective in chosen):
            raise UsageError(f"the objective '{name}' is named twice")
        chosen.append(Objective(key, known[key]))
    if len(chosen) < 2:
        raise UsageError(
            "a front needs at least two objectives, such as accuracy,latency; the best of one is"
            " what a search without a front finds"
        )
    return tuple(chosen)


def _costs(question: Question) -> dict[str, Cost | None]:
    predictor = question.predictor
    return {
        ACCURACY: None,
        "latency": predictor.latency.of,
        "macs": predictor.macs.of,
        "params": predictor.params.of,
        "memory": question.memory.of,
        **{other.path: other.predictor.latency.of for other in question.others},
    }


def _path_among(name: str, known: Sequence[str] | dict[str, Cost | None]) -> str:
    """The known path of the file that ``name`` is a path of; else the name."""
    same = (path for path in known if Path(path).resolve() == Path(name).resolve())
    return next(same, name)


def label_of(name: str) -> str:
    """What to call an objective on an axis, with its unit."""
    return _FIELDS[name][0] if name in _FIELDS else f"latency on {name}, ms"


def value_of(candidate: Candidate, name: str) -> float:
    """A candidate's value of an objective, in the unit of its label."""
    if name in _FIELDS:
        return float(getattr(candidate, _FIELDS[name][1]))
    return candidate.elsewhere[name].latency_ms
