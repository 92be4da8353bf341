"""A first architecture that meets all limits, found before any search, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement

import numpy as np

from lutra.errors import InfeasibleError
from lutra.predictors.efficiency.costs import OpCost, resolutions_text
from lutra.predictors.efficiency.larger import least_larger
from lutra.search.constraints import Constraints, Limit
from lutra.search.rows.moves import Moves, Row
from lutra.spaces import Rows
from lutra.spaces.distinct import distinct_places

# How finely the weights of two, three, ... limits are divided when looking for a joint anchor.
_WEIGHT_STEPS = {2: 20, 3: 6}
_MORE_WEIGHT_STEPS = 4
_DESCENT_STARTS = 8


def find_anchor(constraints: Constraints, moves: Moves) -> Row:
    """A canonical row (genes,) that meets all limits.

    Each limit alone is checked exactly on the space's lattice; several together by the exact optima
    of their weighted sums and a descent from the nearest of them. Raises `InfeasibleError` naming
    what is possible when a limit lies below the exact lowest cost or no row is found that meets all
    limits together, and `MissingOpError` when a cost is unknown for every architecture.
    """
    return _AnchorSearch(constraints, moves).find()


class _AnchorSearch:
    def __init__(self, constraints: Constraints, moves: Moves) -> None:
        self._constraints = constraints
        self._moves = moves

    def find(self) -> Row:
        """See `find_anchor`."""
        for limit in self._constraints.limits:
            self._check_alone(limit)
        rows = self._lattice_rows()
        excess = self._constraints.excess(rows)
        nearest = rows[np.argsort(excess, kind="stable")[:_DESCENT_STARTS]]
        if not self._constraints.feasible(nearest[:1])[0]:
            nearest = self._descended(nearest)
        if not self._constraints.feasible(nearest[:1])[0]:
            nearest = self._descended(np.concatenate([nearest, *self._pair_rows()]))
        if not self._constraints.feasible(nearest[:1])[0]:
            raise self._infeasible_together(nearest[:1])
        row: Row = nearest[0]
        return row

    def _check_alone(self, limit: Limit) -> None:
        """Raise `InfeasibleError` when no architecture meets this limit by itself."""
        value, row = limit.lowest(self._constraints.resolutions)
        if value <= limit.maximum:
            return
        best_of = (
            ""
            if len(self._constraints.resolutions) == 1
            else (f", the best of {resolutions_text(self._constraints.resolutions)}")
        )
        raise InfeasibleError(
            f"the {self._extreme_subnet(limit.cost)} {limit.cost.text(value)} at"
            f" resolution {self._constraints.space.resolutions[row[-1]]}{best_of}; the limit on"
            f" {limit.cost.name}, {limit.cost.text(limit.maximum)}, is below it"
        )

    def _extreme_subnet(self, cost: OpCost) -> str:
        """What to call the subnet with the lowest cost, and its verb.

        The least device latency is not that of the fastest subnet, which may wait for its host.
        """
        if cost.unit == "bytes":
            return f"subnet of {self._constraints.space.name} with the least {cost.name} needs"
        if cost.unit != "ms":
            return f"smallest subnet of {self._constraints.space.name} has"
        if cost.name.startswith("latency"):
            where = cost.name.removeprefix("latency")
            return f"fastest subnet of {self._constraints.space.name}{where} takes"
        return f"subnet of {self._constraints.space.name} with the least {cost.name} takes"

    def _lattice_rows(self) -> Rows:
        """Each resolution's exact optima for weighted sums of the costs relative to the limits."""
        relative = [limit.cost.prices / limit.maximum for limit in self._constraints.limits]
        rows = []
        for weights in _weight_grid(len(self._constraints.limits)):
            prices = np.zeros(len(self._constraints.space.ops))
            for weight, price in zip(weights, relative, strict=True):
                prices = prices + weight * price
            for resolution in self._constraints.resolutions:
                total, row = self._constraints.space.lattice(resolution).cheapest(prices)
                if math.isfinite(total):
                    rows.append(row)
        if not rows:
            raise InfeasibleError(
                f"no subnet of {self._constraints.space.name} has a known value for"
                f" {' and '.join(limit.cost.name for limit in self._constraints.limits)} together"
            )
        found = np.stack(rows)
        return found[distinct_places(found)]

    def _pair_rows(self) -> Iterator[Rows]:
        """Like `_lattice_rows`, with the weights that suit each two of the limits best."""
        relative = [
            OpCost(
                cost.name,
                "",
                self._constraints.space,
                cost.prices / maximum,
                float(cost.constant / maximum),
            )
            for cost, maximum in ((limit.cost, limit.maximum) for limit in self._constraints.limits)
        ]
        for first, second in combinations(relative, 2):
            for resolution in self._constraints.resolutions:
                yield least_larger(first, second, resolution)[1]

    def _descended(self, rows: Rows) -> Rows:
        """What each row descends to, the nearest to all limits first."""
        reached = np.stack([self._descend(row) for row in rows])
        ordered: Rows = reached[np.argsort(self._constraints.excess(reached), kind="stable")]
        return ordered

    def _descend(self, row: Row) -> Row:
        """Change the gene that lowers the excess most, while one does."""
        best = self._constraints.excess(row[None, :])[0]
        for _ in range(len(row) * int(self._moves.choice_counts.max())):
            neighbours = self._moves.neighbours(row)
            excess = self._constraints.excess(neighbours)
            nearest = int(excess.argmin())
            if not excess[nearest] < best:
                break
            row, best = neighbours[nearest], excess[nearest]
        return row

    def _infeasible_together(self, row: Rows) -> InfeasibleError:
        limits = " and ".join(map(str, self._constraints.limits))
        nearest = " and ".join(
            limit.cost.text(value)
            for limit, value in zip(
                self._constraints.limits, self._constraints.costs_of(row)[0], strict=True
            )
        )
        resolutions = resolutions_text(self._constraints.resolutions)
        above = self._constraints.excess(row)[0] - 1.0
        raised = (
            f": with limits that are {100 * above:.3g} % higher they are met together"
            if math.isfinite(above)
            else ""
        )
        return InfeasibleError(
            f"no subnet of {self._constraints.space.name} at {resolutions} was found"
            f" that meets {limits} together, though each alone can be met; the nearest has"
            f" {nearest}{raised}"
        )


def _weight_grid(count: int) -> Iterator[tuple[float, ...]]:
    """Evenly spread non-negative weights that sum to 1; nothing to weigh gives one empty tuple."""
    steps = _WEIGHT_STEPS.get(count, _MORE_WEIGHT_STEPS) if count > 1 else count
    for picked in combinations_with_replacement(range(count), steps):
        yield tuple(picked.count(index) / steps for index in range(count))
