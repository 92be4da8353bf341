"""What a search must keep to: limits on costs, and the resolutions it may use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lutra.errors import UsageError
from lutra.predictors.efficiency.costs import OpCost, total_costs
from lutra.predictors.efficiency.forms import Latency
from lutra.predictors.efficiency.memory import PeakCost
from lutra.spaces import Rows, SearchSpace


@dataclass(frozen=True)
class Limit:
    """``cost`` must not exceed ``maximum``, in its unit; `UsageError` unless that is positive.

    Where ``peak`` is given the limit is on that, and ``cost`` is the same limit as a sum for what
    only adds up: 0 for the ops that fit, no price for others (`peak_limit` makes it).
    """

    cost: OpCost
    maximum: float
    peak: PeakCost | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.maximum) or self.maximum <= 0:
            raise UsageError(
                f"the limit on {self.cost.name} must be a positive number of {self.cost.unit},"
                f" not {self.maximum:g}"
            )

    def __str__(self) -> str:
        return f"{self.cost.name} <= {self.cost.text(self.maximum)}"

    def scaled(self, share: float) -> Limit:
        """The limit on the same at that share of the maximum."""
        if self.peak is not None:
            return peak_limit(self.peak, share * self.maximum)
        return replace(self, maximum=share * self.maximum)

    def lowest(self, resolutions: Sequence[int]) -> tuple[float, npt.NDArray[np.int16]]:
        """The exact lowest value of any architecture at these resolutions, and its row."""
        return (self.peak or self.cost).cheapest(resolutions)


def peak_limit(peak: PeakCost, maximum: float) -> Limit:
    """The limit on a peak; raises `UsageError` unless ``maximum`` is positive."""
    return Limit(peak.within(maximum), maximum, peak)


def latency_limits(latency: Latency, maximum_ms: float, where: str = "") -> tuple[Limit, ...]:
    """The limits, one on each form, that keep a latency from exceeding ``maximum_ms``.

    ``where`` tells in messages which table's it is, where there are several.
    """
    named = (replace(form, name=f"{form.name}{where}") for form in latency.forms)
    return tuple(Limit(form, maximum_ms) for form in named)


class Constraints:
    """The architectures of a space at ``resolutions`` that meet all ``limits``.

    Raises `UsageError` for a limit of another space, a resolution that the space does not have, or
    no resolution.
    """

    def __init__(
        self, space: SearchSpace, limits: Sequence[Limit], resolutions: Sequence[int]
    ) -> None:
        if not resolutions:
            raise UsageError("name at least one resolution to search")
        space.check_resolutions(resolutions)
        for limit in limits:
            if limit.cost.space.name != space.name:
                raise UsageError(
                    f"the limit on {limit.cost.name} is of space '{limit.cost.space.name}',"
                    f" not of '{space.name}'"
                )
        self.space = space
        self.limits = tuple(limits)
        self.resolutions = tuple(resolutions)
        self.maxima = np.array([limit.maximum for limit in limits])
        self._allowed_resolutions = np.zeros(len(space.resolutions), dtype=bool)
        self._allowed_resolutions[space.resolution_indices(self.resolutions)] = True

    def costs_of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N, limits): what each limit looks at, in its cost's unit."""
        costs = total_costs([limit.cost for limit in self.limits], rows)
        for column, limit in enumerate(self.limits):
            if limit.peak is not None:
                costs[:, column] = limit.peak.of(rows)
        return costs

    def feasible(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """(N, genes) -> (N,): at one of the resolutions, within all limits; a NaN cost is not."""
        within = (self.costs_of(rows) <= self.maxima).all(axis=1)
        allowed: npt.NDArray[np.bool_] = within & self._allowed_resolutions[rows[:, -1]]
        return allowed

    def excess(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): the largest cost relative to its limit; infinite for NaN."""
        relative = self.costs_of(rows) / self.maxima
        excess: npt.NDArray[np.float64] = np.where(np.isnan(relative), np.inf, relative)
        largest: npt.NDArray[np.float64] = excess.max(axis=1, initial=-np.inf)
        return largest
