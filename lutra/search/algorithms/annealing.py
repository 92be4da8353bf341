"""Simulated annealing in many chains that start again from the best of them.

Kirkpatrick et al., "Optimization by Simulated Annealing" (Science, 1983). The preset ``light-nas``
is what the controller of PaddleSlim's Light-NAS does: one chain, one gene at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lutra.search.algorithms.base import (
    Algorithm,
    Archive,
    Hyperparameters,
    OnStep,
    RankedRows,
    register_algorithm,
)
from lutra.search.algorithms.climbing import climb_from_within, tightened
from lutra.search.algorithms.descent import descend
from lutra.search.problem import Problem
from lutra.spaces import Rows
from lutra.spaces.distinct import best_distinct

_CLIMBS = 128  # side by side: what they look at takes memory


@dataclass(frozen=True, kw_only=True)
class AnnealingHyperparameters(Hyperparameters):
    """Step k of a round has the temperature ``initial_temperature * cooling ** k``, in percent.

    ``chains`` run side by side. Each proposal changes up to ``changes`` genes and is drawn up to
    ``draws`` times until it is feasible. After each of ``rounds`` of ``steps`` all chains start
    again from the best quarter of what they have seen. ``polish``: at the end they climb, and so
    many steps go to the best within two choices of the best; 0 for neither.
    """

    chains: int = 128
    rounds: int = 3
    steps: int = 150
    initial_temperature: float = 0.15
    cooling: float = 0.98
    changes: int = 3
    draws: int = 4
    polish: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in ("chains", "rounds", "steps", "changes", "draws"):
            self.check_count(count)
        self.check_count("polish", 0)
        self.check("initial_temperature", 0)
        self.check("cooling", 0, 1)


class Annealing(Algorithm[AnnealingHyperparameters]):
    """Changes few genes at a time; a worse network is accepted less and less often."""

    name = "annealing"
    hyperparameters = AnnealingHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: AnnealingHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        archive = Archive(problem, max(hyperparameters.keep, hyperparameters.chains))
        archive.score(problem.anchor[None, :])
        with archive.until_interrupted():
            rows = problem.repair(problem.moves.draw(hyperparameters.chains, rng), rng)
            parts = hyperparameters.rounds + (hyperparameters.polish > 0)
            for done in range(hyperparameters.rounds):
                ends = _anneal(problem, archive, rows, hyperparameters, rng)
                best = archive.best(max(1, hyperparameters.chains // 4)).rows
                rows = best[rng.integers(len(best), size=hyperparameters.chains)]
                if on_step is not None:
                    on_step(done + 1, parts)
            if hyperparameters.polish:
                _polish(problem, archive, ends, hyperparameters.polish, rng)
                if on_step is not None:
                    on_step(parts, parts)
        return archive.best(hyperparameters.keep)


def _polish(
    problem: Problem, archive: Archive, ends: Rows, steps: int, rng: np.random.Generator
) -> None:
    """Climb from the best of the distinct ends, and complete the neighbourhood of the best."""
    starts = ends[best_distinct(ends, archive.score(ends), _CLIMBS)]
    climb_from_within(problem, tightened(problem), archive, starts, rng)
    descend(problem, archive, steps)


def _anneal(
    problem: Problem,
    archive: Archive,
    rows: Rows,
    hyperparameters: AnnealingHyperparameters,
    rng: np.random.Generator,
) -> Rows:
    """Where one round of chains that begin at ``rows`` ends."""
    rewards = archive.score(rows)
    for step in range(hyperparameters.steps):
        temperature = hyperparameters.initial_temperature * hyperparameters.cooling**step
        proposals, moved = _propose(problem, rows, hyperparameters, rng)
        gains = archive.score(proposals) - rewards
        accepted = moved & _accept(gains, temperature, rng)
        rows = np.where(accepted[:, None], proposals, rows)
        rewards = np.where(accepted, rewards + gains, rewards)
    return rows


def _propose(
    problem: Problem,
    rows: Rows,
    hyperparameters: AnnealingHyperparameters,
    rng: np.random.Generator,
) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """A feasible row near each, and whether one was found; the row itself otherwise.

    A changed gene that is inert makes no neighbour.
    """
    proposals, moved = rows.copy(), np.zeros(len(rows), dtype=bool)
    for _ in range(hyperparameters.draws):
        pending = np.flatnonzero(~moved)
        if not len(pending):
            break
        drawn = problem.moves.draw_several_changes(rows[pending], hyperparameters.changes, rng)
        drawn = problem.space.canonical(drawn)
        good = (drawn != rows[pending]).any(axis=1) & problem.constraints.feasible(drawn)
        proposals[pending[good]] = drawn[good]
        moved[pending[good]] = True
    return proposals, moved


def _accept(
    gains: npt.NDArray[np.float64], temperature: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Metropolis' rule: always when not worse, else with probability exp(gain / temperature)."""
    scaled = np.maximum(np.minimum(gains, 0.0) / max(temperature, 1e-12), -700.0)
    chance: npt.NDArray[np.float64] = np.exp(scaled)
    return rng.random(len(gains)) < chance


register_algorithm(Annealing())
