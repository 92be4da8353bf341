"""Ask and tell: a search that someone else's algorithm drives."""

from __future__ import annotations

import numpy as np

from lutra.errors import UsageError
from lutra.predictors.accuracy.base import Accuracies
from lutra.search.algorithms.base import Archive, RankedRows, fresh_rows
from lutra.search.problem import Problem
from lutra.spaces import Rows


class SearchSession:
    """A problem with what is known of it so far; proposals come from here or from anywhere.

    ``ask`` draws architectures that meet the limits, ``near`` makes such out of any rows (an
    optimiser's vectors), ``tell`` takes in what they are worth: the problem's own predictions, or
    accuracies (percent) from elsewhere. The same seed and calls give the same answers.
    """

    def __init__(self, problem: Problem, *, keep: int = 100, seed: int = 0) -> None:
        self.problem = problem
        self._archive = Archive(problem, keep)
        self._rng = np.random.default_rng(seed)

    def ask(self, count: int) -> Rows:
        """Up to ``count`` distinct rows (N, genes) within the limits that were never told.

        Raises `InfeasibleError` where the limits cannot be met.
        """
        return fresh_rows(
            self.problem,
            self._archive,
            lambda number: self.problem.moves.draw(number, self._rng),
            count,
            self._rng,
        )

    def near(self, rows: Rows) -> Rows:
        """(N, genes) -> (N, genes): canonical, and pulled towards a feasible row until feasible.

        The choices must be the space's. Raises `InfeasibleError` like `ask`.
        """
        return self.problem.repair(rows, self._rng)

    def tell(self, rows: Rows, accuracy: Accuracies | None = None) -> Accuracies:
        """(N, genes) -> (N,): what the rows' accuracy is taken to be, in percent.

        Without ``accuracy`` (N,) the problem's predictor says. What was told before stands. Raises
        `UsageError` for rows outside the limits and for accuracies that are no numbers.
        """
        rows = self.problem.space.canonical(rows)
        outside = int(np.count_nonzero(~self.problem.constraints.feasible(rows)))
        if outside:
            raise UsageError(
                f"{outside} of {len(rows)} rows are outside the limits or resolutions;"
                " pass rows through SearchSession.near first"
            )
        if accuracy is not None:
            accuracy = np.asarray(accuracy, dtype=np.float64)
            if accuracy.shape != (len(rows),) or not np.isfinite(accuracy).all():
                raise UsageError(f"tell needs one number for each of the {len(rows)} rows")
            new = self._archive.unseen(rows)
            given = {row.tobytes(): value for row, value in zip(rows, accuracy, strict=True)}
            self._archive.record(new, np.array([given[row.tobytes()] for row in new]))
        return self._archive.score(rows)

    def best(self, count: int | None = None) -> RankedRows:
        """The best ``count`` of what was told, or all that are kept."""
        return self._archive.best(count)
