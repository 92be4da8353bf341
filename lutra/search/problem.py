"""What a search is asked: the most accurate architecture of a space within limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError, InfeasibleError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.search.constraints import Constraints, Limit
from lutra.search.rows.anchor import find_anchor
from lutra.search.rows.moves import Moves, Row
from lutra.spaces import Rows, SearchSpace

_REPAIR_STEPS = 10


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise ``accuracy`` over the rows of ``space`` at ``resolutions`` that meet all ``limits``.

    ``caveat`` is what is to be said where limits cannot be met: how sure costs are, say.
    Raises `UsageError` or `AccuracyError` when these do not speak of the same space or resolutions.
    """

    space: SearchSpace
    accuracy: AccuracyPredictor
    limits: tuple[Limit, ...]
    resolutions: tuple[int, ...]
    caveat: str = ""

    def __post_init__(self) -> None:
        _ = self.constraints  # raises where they do not fit the space
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

    @cached_property
    def constraints(self) -> Constraints:
        """The limits and resolutions, as a question about rows."""
        return Constraints(self.space, self.limits, self.resolutions)

    @cached_property
    def moves(self) -> Moves:
        """The steps that algorithms take."""
        return Moves(self.space, self.resolutions)

    @cached_property
    def anchor(self) -> Row:
        """A canonical row (genes,) that meets all limits, found at once; see `find_anchor`."""
        try:
            return find_anchor(self.constraints, self.moves)
        except InfeasibleError as error:
            raise InfeasibleError("; ".join(filter(None, (str(error), self.caveat)))) from error

    def accuracy_of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): predicted accuracy in percent; raises `AccuracyError` for NaN."""
        accuracy = self.accuracy.predict(rows)
        if not np.isfinite(accuracy).all():
            raise AccuracyError(
                f"accuracy predictor '{self.accuracy.name}' gives no number for"
                f" {np.count_nonzero(~np.isfinite(accuracy))} of {len(rows)} architectures"
            )
        return accuracy

    def repair(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Feasible canonical rows: the infeasible ones are pulled towards the anchor.

        Gene by gene, with a probability that grows to 1, so that it ends after a fixed number of
        steps, at the anchor itself if need be. Raises like `find_anchor`.
        """
        rows = self.space.canonical(rows)
        bad = np.flatnonzero(~self.constraints.feasible(rows))
        for step in range(1, _REPAIR_STEPS + 1):
            if not len(bad):
                break
            pulled = rng.random((len(bad), rows.shape[1])) < step / _REPAIR_STEPS
            rows[bad] = self.space.canonical(np.where(pulled, self.anchor, rows[bad]))
            bad = bad[~self.constraints.feasible(rows[bad])]
        return rows
