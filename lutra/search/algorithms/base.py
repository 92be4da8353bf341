"""What every search algorithm shares: its contract, the archive of what it saw, the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lutra.errors import UsageError
from lutra.search.problem import Problem
from lutra.spaces import Rows
from lutra.spaces.distinct import row_keys
from lutra.text import did_you_mean

OnStep = Callable[[int, int], None]
"""Called with how many steps are done and how many there are."""

_DRAWS = 2
_OVERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """What an algorithm can be told; each has its own subclass, with defaults that suit OFA.

    ``keep`` is how many of the best architectures the result holds. Raises `UsageError` for a
    value out of range.
    """

    keep: int = 100

    def __post_init__(self) -> None:
        self.check_count("keep")

    def check_count(self, name: str, low: int = 1) -> None:
        """Raise `UsageError` unless the hyperparameter is a whole number of at least ``low``."""
        value = getattr(self, name)
        if not isinstance(value, int):
            raise UsageError(f"search setting {name} = {value:g} must be a whole number")
        self.check(name, low)

    def check(self, name: str, low: float, high: float = np.inf) -> None:
        """Raise `UsageError` unless the hyperparameter is a number from ``low`` to ``high``."""
        value = getattr(self, name)
        if not low <= value <= high:
            bounds = f"at least {low:g}" if np.isinf(high) else f"from {low:g} to {high:g}"
            raise UsageError(f"search setting {name} = {value:g} must be {bounds}")


INTERRUPTED = "interrupted: the best so far"
UNPROVED = "found by search: nothing proves that there are no better ones"
_OF_QUALITY = ("proved:", "not proved:", "found by search:")


def is_of_quality(note: str) -> bool:
    """Whether a note says how good what a search found is: `RankedRows.notes`."""
    return note.startswith(_OF_QUALITY)


@dataclass(frozen=True, eq=False)
class RankedRows:
    """Distinct feasible architectures, best first: canonical rows and accuracy in percent (N,).

    ``evaluations`` counts the distinct architectures that were scored to find them. ``gap``: no
    architecture is more than so many points more accurate than the first, 0 where that is proved to
    be the best, None where nothing is proved. ``interrupted`` where the search did not end.
    """

    rows: Rows
    accuracy: npt.NDArray[np.float64]
    evaluations: int
    gap: float | None = None
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of how good these are."""
        stopped = (INTERRUPTED,) if self.interrupted else ()
        if self.gap is None:
            return (*stopped, UNPROVED)
        if self.gap == 0.0:
            return (*stopped, "proved: no subnet within the limits is predicted more accurate")
        return (*stopped, f"not proved: another could be {self.gap:.2g} points more accurate")


class Archive:
    """Scores architectures, each only once, and keeps the best ``keep`` of them.

    The order is by accuracy; equal accuracies are ordered by the first limit's cost.
    """

    def __init__(self, problem: Problem, keep: int) -> None:
        self._problem = problem
        self._keep = keep
        self._known: dict[bytes, float] = {}
        self._rows: Rows = np.zeros((0, len(problem.space.genes)), dtype=np.int16)
        self._accuracy = np.zeros(0)
        self._cost = np.zeros(0)
        self._interrupted = False

    @contextmanager
    def until_interrupted(self) -> Iterator[None]:
        """What runs inside ends early, and well, on Ctrl-C; once there is something to return."""
        try:
            yield
        except KeyboardInterrupt:
            if not len(self._rows):
                raise
            self._interrupted = True

    @property
    def evaluations(self) -> int:
        """How many architectures were scored."""
        return len(self._known)

    def unseen(self, rows: Rows) -> Rows:
        """Those canonical rows that were never scored, each once, in the order given."""
        known, first = self._known, dict[bytes, int]()
        for place, key in enumerate(row_keys(rows)):
            if key not in known:
                first.setdefault(key, place)
        return rows[list(first.values())]

    def score(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): the accuracy of feasible canonical rows, in percent."""
        new = self.unseen(rows)
        if len(new):
            self.record(new, self._problem.accuracy_of(new))
        return np.array([self._known[key] for key in row_keys(rows)])

    def score_any(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Like `score` of rows that need not be feasible: those that are not are never kept."""
        new = self.unseen(rows)
        if len(new):
            accuracy = self._problem.accuracy_of(new)
            feasible = self._problem.constraints.feasible(new)
            self.record(new[feasible], accuracy[feasible])
            self._known.update(zip(row_keys(new), accuracy.tolist(), strict=True))
        return np.array([self._known[key] for key in row_keys(rows)])

    def record(self, new: Rows, accuracy: npt.NDArray[np.float64]) -> None:
        """Take in unseen feasible rows (N, genes) with their accuracy (N,) in percent."""
        self._known.update(zip(row_keys(new), accuracy.tolist(), strict=True))
        self._insert(new, accuracy)

    def _insert(self, rows: Rows, accuracy: npt.NDArray[np.float64]) -> None:
        if len(self._rows) == self._keep:
            good = accuracy >= self._accuracy[-1]
            rows, accuracy = rows[good], accuracy[good]
        if not len(rows):
            return
        rows = np.concatenate([self._rows, rows])
        accuracy = np.concatenate([self._accuracy, accuracy])
        costs = self._problem.constraints.costs_of(rows[len(self._rows) :])
        cost = np.concatenate([self._cost, costs[:, 0] if costs.shape[1] else np.zeros(len(costs))])
        order = np.lexsort((cost, -accuracy))[: self._keep]
        self._rows, self._accuracy, self._cost = rows[order], accuracy[order], cost[order]

    def best(self, count: int | None = None) -> RankedRows:
        """The best ``count`` architectures kept, or all that are."""
        return RankedRows(
            self._rows[:count],
            self._accuracy[:count],
            self.evaluations,
            interrupted=self._interrupted,
        )


def fresh_rows(
    problem: Problem,
    archive: Archive,
    draw: Callable[[int], Rows],
    count: int,
    rng: np.random.Generator,
    draws: int = _DRAWS,
    repair: bool = True,
) -> Rows:
    """Up to ``count`` distinct feasible rows that were never scored, from ``draw(number)``.

    Infeasible and known ones are drawn again, ``draws`` times in all; what is still lacking then
    is made up for by repairing infeasible ones, so that this always ends.
    """
    fresh: Rows = np.zeros((0, len(problem.space.genes)), dtype=np.int16)
    for _ in range(draws):
        drawn = problem.space.canonical(draw(_OVERSAMPLING * count))
        feasible = problem.constraints.feasible(drawn)
        fresh = archive.unseen(np.concatenate([fresh, drawn[feasible]]))[:count]
        if len(fresh) == count:
            return fresh
    if not repair:
        return fresh
    repaired = problem.repair(drawn[~feasible][:count], rng)
    return archive.unseen(np.concatenate([fresh, repaired]))[:count]


HyperparametersT = TypeVar("HyperparametersT", bound=Hyperparameters)


class Algorithm(ABC, Generic[HyperparametersT]):
    """One way to search; a new one is a file of its own that calls `register_algorithm`."""

    name: str
    hyperparameters: type[HyperparametersT]

    @abstractmethod
    def run(
        self,
        problem: Problem,
        hyperparameters: HyperparametersT,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        """The best architectures found; the same seed gives the same ones.

        Raises `InfeasibleError` at once when the limits cannot be met.
        """


_ALGORITHMS: dict[str, Algorithm[Any]] = {}


def register_algorithm(algorithm: Algorithm[Any]) -> None:
    """Make an algorithm known by its name."""
    _ALGORITHMS[algorithm.name] = algorithm


def algorithm_names() -> tuple[str, ...]:
    """The known algorithms' names."""
    return tuple(_ALGORITHMS)


def get_algorithm(name: str) -> Algorithm[Any]:
    """The algorithm of that name; raises `UsageError` naming the known ones."""
    if name not in _ALGORITHMS:
        near = did_you_mean(name, _ALGORITHMS)
        raise UsageError(f"unknown algorithm '{name}'; known: {', '.join(_ALGORITHMS)}{near}")
    return _ALGORITHMS[name]
