"""Simulated annealing, as the controller of PaddleSlim's Light-NAS does it, in many chains."""

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
from lutra.search.problem import Problem
from lutra.spaces import Rows


@dataclass(frozen=True, kw_only=True)
class AnnealingHyperparameters(Hyperparameters):
    """Step k has the temperature ``initial_temperature * cooling ** k``, in percent of accuracy.

    ``chains`` run side by side; each proposal is drawn up to ``draws`` times until it is feasible.
    """

    chains: int = 64
    steps: int = 1500
    initial_temperature: float = 1.0
    cooling: float = 0.996
    draws: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for count in ("chains", "steps", "draws"):
            self.check_count(count)
        self.check("initial_temperature", 0)
        self.check("cooling", 0, 1)


class Annealing(Algorithm[AnnealingHyperparameters]):
    """Changes one gene at a time; a worse network is accepted less and less often."""

    name = "annealing"
    hyperparameters = AnnealingHyperparameters

    def run(
        self,
        problem: Problem,
        hyperparameters: AnnealingHyperparameters,
        rng: np.random.Generator,
        on_step: OnStep | None = None,
    ) -> RankedRows:
        archive = Archive(problem, hyperparameters.keep)
        archive.score(problem.anchor[None, :])
        rows = problem.repair(problem.moves.draw(hyperparameters.chains, rng), rng)
        rewards = archive.score(rows)
        for step in range(hyperparameters.steps):
            temperature = hyperparameters.initial_temperature * hyperparameters.cooling**step
            proposals, moved = _propose(problem, rows, hyperparameters.draws, rng)
            gains = archive.score(proposals) - rewards
            accepted = moved & _accept(gains, temperature, rng)
            rows = np.where(accepted[:, None], proposals, rows)
            rewards = np.where(accepted, rewards + gains, rewards)
            if on_step is not None:
                on_step(step + 1, hyperparameters.steps)
        return archive.best(hyperparameters.keep)


def _propose(
    problem: Problem, rows: Rows, draws: int, rng: np.random.Generator
) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """A feasible neighbour of each row, and whether one was found; the row itself otherwise.

    A changed gene that is inert makes no neighbour.
    """
    proposals, moved = rows.copy(), np.zeros(len(rows), dtype=bool)
    for _ in range(draws):
        pending = np.flatnonzero(~moved)
        if not len(pending):
            break
        columns = rng.integers(rows.shape[1], size=len(pending))
        drawn = problem.space.canonical(problem.moves.draw_changes(rows[pending], columns, rng))
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
