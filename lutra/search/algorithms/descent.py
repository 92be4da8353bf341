"""The complete neighbourhood of a network: all one- and two-gene changes that meet the limits."""

from __future__ import annotations

from lutra.search.algorithms.base import Archive
from lutra.search.problem import Problem


def descend(problem: Problem, archive: Archive, steps: int) -> None:
    """Go from the archive's best to the best of its neighbourhood, until it is itself the best.

    Or ``steps`` times. Then no network one or two choices away is more accurate.
    """
    for _ in range(steps):
        best = archive.best(1).rows[0]
        near = problem.moves.within_two(best)
        archive.score(near[problem.constraints.feasible(near)])
        if (archive.best(1).rows[0] == best).all():
            break
