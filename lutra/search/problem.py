"""What a search is asked: the most accurate architecture of a space within limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, combinations_with_replacement

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError, InfeasibleError, UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.predictors.efficiency.costs import UnitCost, resolutions_text, total_costs
from lutra.predictors.efficiency.forms import Latency
from lutra.predictors.efficiency.larger import least_larger
from lutra.spaces import Rows, SearchSpace

_REPAIR_STEPS = 10
# How finely the weights of two, three, ... limits are divided when looking for a joint anchor.
_WEIGHT_STEPS = {2: 20, 3: 6}
_MORE_WEIGHT_STEPS = 4
_DESCENT_STARTS = 8


@dataclass(frozen=True)
class Limit:
    """``cost`` must not exceed ``maximum``, in the cost's unit; raises `UsageError`."""

    cost: UnitCost
    maximum: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.maximum) or self.maximum <= 0:
            raise UsageError(
                f"the limit on {self.cost.name} must be a positive number of {self.cost.unit},"
                f" not {self.maximum:g}"
            )

    def __str__(self) -> str:
        return f"{self.cost.name} <= {self.cost.text(self.maximum)}"


def latency_limits(latency: Latency, maximum_ms: float) -> tuple[Limit, ...]:
    """What together says that a latency does not exceed ``maximum_ms``: a limit on each form."""
    return tuple(Limit(form, maximum_ms) for form in latency.forms)


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise ``accuracy`` over the rows of ``space`` at ``resolutions`` that meet all ``limits``.

    Raises `UsageError` or `AccuracyError` when the parts do not speak of the same space or
    resolutions.
    """

    space: SearchSpace
    accuracy: AccuracyPredictor
    limits: tuple[Limit, ...]
    resolutions: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.resolutions:
            raise UsageError("name at least one resolution to search")
        self.space.check_resolutions(self.resolutions)
        for limit in self.limits:
            if limit.cost.space.name != self.space.name:
                raise UsageError(
                    f"the limit on {limit.cost.name} is of space '{limit.cost.space.name}',"
                    f" not of '{self.space.name}'"
                )
        if self.accuracy.space != self.space.name:
            raise AccuracyError(
                f"accuracy predictor '{self.accuracy.name}' is of space"
                f" '{self.accuracy.space}', not of '{self.space.name}'"
            )
        foreign = sorted(set(self.resolutions) - set(self.accuracy.resolutions))
        if foreign:
            known = ", ".join(map(str, self.accuracy.resolutions))
            raise AccuracyError(
                f"accuracy predictor '{self.accuracy.name}' does not cover resolution"
                f" {', '.join(map(str, foreign))}; it covers {known}"
            )

    def costs_of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N, limits): what each limit looks at, in its cost's unit."""
        return total_costs([limit.cost for limit in self.limits], rows)

    def feasible(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """(N, genes) -> (N,): at one of the resolutions and within all limits; NaN is not."""
        within = (self.costs_of(rows) <= self._maxima).all(axis=1)
        allowed: npt.NDArray[np.bool_] = within & self._allowed_resolutions[rows[:, -1]]
        return allowed

    def accuracy_of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): predicted accuracy in percent; raises `AccuracyError` for NaN."""
        accuracy = self.accuracy.predict(rows)
        if not np.isfinite(accuracy).all():
            raise AccuracyError(
                f"accuracy predictor '{self.accuracy.name}' gives no number for"
                f" {np.count_nonzero(~np.isfinite(accuracy))} of {len(rows)} architectures"
            )
        return accuracy

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """``count`` rows with every gene drawn uniformly; neither canonical nor feasible."""
        # Several times faster than rng.integers with a bound per gene.
        fractions = rng.random((count, len(self._choice_counts)))
        rows: Rows = (fractions * self._choice_counts).astype(np.int16)
        rows[:, -1] = self._resolution_choices[rows[:, -1]]
        return rows

    def draw_changes(
        self, rows: Rows, columns: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> Rows:
        """Each row with its gene at ``columns`` (N,) changed to another value; not canonical.

        A gene with a single choice keeps it.
        """
        result = rows.copy()
        each = np.arange(len(rows))
        counts = self._choice_counts[columns]
        places = rows[each, columns].astype(np.int64)
        of_resolution = columns == rows.shape[1] - 1
        places[of_resolution] = np.searchsorted(self._resolution_choices, rows[of_resolution, -1])
        places = (places + rng.integers(1, np.maximum(counts, 2))) % counts
        result[each, columns] = places
        result[of_resolution, -1] = self._resolution_choices[places[of_resolution]]
        return result

    def neighbours(self, row: npt.NDArray[np.int16]) -> Rows:
        """The canonical rows one choice away from ``row``, itself canonical."""
        changes = []
        for column, count in enumerate(self._choice_counts):
            choices = self._resolution_choices if column == len(row) - 1 else np.arange(count)
            rows = np.repeat(row[None, :], count, axis=0)
            rows[:, column] = choices
            changes.append(rows)
        changed = self.space.canonical(np.concatenate(changes))
        different: Rows = changed[(changed != row).any(axis=1)]
        return different

    def check_feasible(self) -> npt.NDArray[np.int16]:
        """A canonical row that meets all limits, found at once: the *anchor*.

        Raises `InfeasibleError` naming what is possible when a limit lies below the exact lowest
        cost or no row is found that meets all limits together, and `MissingOpError` when a cost
        is unknown for every architecture.
        """
        return self._anchor

    def repair(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Feasible canonical rows: the infeasible ones are pulled towards the anchor.

        Gene by gene, with a probability that grows to 1, so that it ends after a fixed number of
        steps, at the anchor itself if need be. Raises like `check_feasible`.
        """
        rows = self.space.canonical(rows)
        bad = np.flatnonzero(~self.feasible(rows))
        for step in range(1, _REPAIR_STEPS + 1):
            if not len(bad):
                break
            pulled = rng.random((len(bad), rows.shape[1])) < step / _REPAIR_STEPS
            rows[bad] = self.space.canonical(np.where(pulled, self._anchor, rows[bad]))
            bad = bad[~self.feasible(rows[bad])]
        return rows

    @cached_property
    def _maxima(self) -> npt.NDArray[np.float64]:
        return np.array([limit.maximum for limit in self.limits])

    @cached_property
    def _resolution_choices(self) -> npt.NDArray[np.int16]:
        return np.unique(self.space.resolution_indices(self.resolutions))

    @cached_property
    def _choice_counts(self) -> npt.NDArray[np.int16]:
        counts = self.space.choice_counts.copy()
        counts[-1] = len(self._resolution_choices)
        return counts

    @cached_property
    def _allowed_resolutions(self) -> npt.NDArray[np.bool_]:
        allowed = np.zeros(len(self.space.resolutions), dtype=bool)
        allowed[self._resolution_choices] = True
        return allowed

    @cached_property
    def _anchor(self) -> npt.NDArray[np.int16]:
        for limit in self.limits:
            self._check_alone(limit)
        rows = self._lattice_rows()
        excess = self._excess(rows)
        nearest = rows[np.argsort(excess, kind="stable")[:_DESCENT_STARTS]]
        if not self.feasible(nearest[:1])[0]:
            nearest = self._descended(nearest)
        if not self.feasible(nearest[:1])[0]:
            nearest = self._descended(np.concatenate([nearest, *self._pair_rows()]))
        if not self.feasible(nearest[:1])[0]:
            raise self._infeasible_together(nearest[:1])
        row: npt.NDArray[np.int16] = nearest[0]
        return row

    def _check_alone(self, limit: Limit) -> None:
        """Raise `InfeasibleError` when no architecture meets this limit by itself."""
        value, row = limit.cost.cheapest(self.resolutions)
        if value <= limit.maximum:
            return
        best_of = (
            ""
            if len(self.resolutions) == 1
            else (f", the best of {resolutions_text(self.resolutions)}")
        )
        raise InfeasibleError(
            f"the {self._extreme_subnet(limit.cost)} {limit.cost.text(value)} at"
            f" resolution {self.space.resolutions[row[-1]]}{best_of}; the limit on"
            f" {limit.cost.name}, {limit.cost.text(limit.maximum)}, is below it"
        )

    def _extreme_subnet(self, cost: UnitCost) -> str:
        """What to call the subnet with the lowest cost, and its verb.

        The least device latency is not that of the fastest subnet, which may wait for its host.
        """
        if cost.unit != "ms":
            return f"smallest subnet of {self.space.name} has"
        if cost.name == "latency":
            return f"fastest subnet of {self.space.name} takes"
        return f"subnet of {self.space.name} with the least {cost.name} takes"

    def _lattice_rows(self) -> Rows:
        """Each resolution's exact optima for weighted sums of the costs relative to the limits."""
        relative = [limit.cost.prices / limit.maximum for limit in self.limits]
        rows = []
        for weights in _weight_grid(len(self.limits)):
            prices = np.zeros(len(self.space.units))
            for weight, price in zip(weights, relative, strict=True):
                prices = prices + weight * price
            for resolution in self.resolutions:
                total, row = self.space.lattice(resolution).cheapest(prices)
                if math.isfinite(total):
                    rows.append(row)
        if not rows:
            raise InfeasibleError(
                f"no subnet of {self.space.name} has a known value for"
                f" {' and '.join(limit.cost.name for limit in self.limits)} together"
            )
        return np.unique(np.stack(rows), axis=0)

    def _pair_rows(self) -> Iterator[Rows]:
        """Like `_lattice_rows`, with the weights that suit each two of the limits best."""
        relative = [
            UnitCost(
                cost.name, "", self.space, cost.prices / maximum, float(cost.constant / maximum)
            )
            for cost, maximum in ((limit.cost, limit.maximum) for limit in self.limits)
        ]
        for first, second in combinations(relative, 2):
            for resolution in self.resolutions:
                yield least_larger(first, second, resolution)[1]

    def _excess(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): the largest cost relative to its limit; infinite for NaN."""
        relative = self.costs_of(rows) / self._maxima
        excess: npt.NDArray[np.float64] = np.where(np.isnan(relative), np.inf, relative)
        largest: npt.NDArray[np.float64] = excess.max(axis=1, initial=-np.inf)
        return largest

    def _descended(self, rows: Rows) -> Rows:
        """What each row descends to, the nearest to all limits first."""
        reached = np.stack([self._descend(row) for row in rows])
        ordered: Rows = reached[np.argsort(self._excess(reached), kind="stable")]
        return ordered

    def _descend(self, row: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Change the gene that lowers the excess most, while one does."""
        best = self._excess(row[None, :])[0]
        for _ in range(len(row) * int(self._choice_counts.max())):
            neighbours = self.neighbours(row)
            excess = self._excess(neighbours)
            nearest = int(excess.argmin())
            if not excess[nearest] < best:
                break
            row, best = neighbours[nearest], excess[nearest]
        return row

    def _infeasible_together(self, row: Rows) -> InfeasibleError:
        limits = " and ".join(map(str, self.limits))
        nearest = " and ".join(
            limit.cost.text(value)
            for limit, value in zip(self.limits, self.costs_of(row)[0], strict=True)
        )
        return InfeasibleError(
            f"no subnet of {self.space.name} at {resolutions_text(self.resolutions)} was found"
            f" that meets {limits} together, though each alone can be met; the nearest has"
            f" {nearest}"
        )


def _weight_grid(count: int) -> Iterator[tuple[float, ...]]:
    """Evenly spread non-negative weights that sum to 1; nothing to weigh gives one empty tuple."""
    steps = _WEIGHT_STEPS.get(count, _MORE_WEIGHT_STEPS) if count > 1 else count
    for picked in combinations_with_replacement(range(count), steps):
        yield tuple(picked.count(index) / steps for index in range(count))
