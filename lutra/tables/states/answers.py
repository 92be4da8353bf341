"""How much more or less than others a network answers to another state of the machine.

A run's state says what networks take in it in the usual; each differs from that by more where the
machine changed by more, and by something from run to run whatever it does. By how much is seen on
what several runs of a table measured, beside the noise of visits: a posterior mean on a grid.
"""

# docs/decisions.md: Anchors between runs

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Student's t, for bursts of other work disturb one now and then; by its second parameter, normal
# values without any come out as they are.
_FREE, _FREE_OF_NORMAL = 8.0, 6.49
# What is assumed before runs tell: a third of the shift in the mean, and little else.
_SHIFT_MEDIAN, _SHIFT_SPREAD = 0.2, 0.65  # lognormal
_RUN_DEVIATION = 0.005  # half normal
_SHIFTS = np.geomspace(0.02, 1.0, 24)
_RUNS = np.geomspace(0.0005, 0.05, 20)
_LEAST_VARIANCE = 1e-8  # a coarse clock gives equal visits


class Answer(NamedTuple):
    """How one network changed from ``earlier`` runs to another, beyond what their states say.

    ``shift`` is by how much slower the machine was, ``apart`` by how much slower than that the
    network was, and ``variance`` that of the noise in it, all as shares; ``weight`` is how much it
    counts.
    """

    shift: float
    apart: float
    variance: float
    earlier: int
    weight: float


@dataclass(frozen=True)
class Unlike:
    """Standard deviations of what a network takes in a run about what the run's state tells.

    ``of_shift`` is its own, for each unit by which the state is another, ``of_run`` that of each
    run. The defaults are what is assumed before runs tell.
    """

    of_shift: float = 0.3
    of_run: float = 0.005

    def error(self, shift: float) -> float:
        """How unsure, relative, is what was brought over such a shift (0.1: 10 %)."""
        return math.hypot(self.of_run, self.of_shift * shift)


def how_unlike(answers: Iterable[Answer]) -> Unlike:
    """What networks that were measured in several runs say of all: roots of mean squares."""
    told = list(answers)
    if not told:
        return Unlike()
    shifts, aparts, variances, earlier, weights = np.array(told, dtype=float).T
    of_shift, of_run = (axis.ravel() for axis in np.meshgrid(_SHIFTS, _RUNS, indexing="ij"))
    scales = (
        np.maximum(variances, _LEAST_VARIANCE)
        + of_run[:, None] ** 2 * (1.0 + 1.0 / earlier)
        + (of_shift[:, None] * shifts) ** 2
    )
    tails = (_FREE + 1.0) * np.log1p(aparts**2 / (_FREE_OF_NORMAL * scales))
    fits = -0.5 * ((np.log(scales) + tails) @ weights)
    fits -= 0.5 * (np.log(of_shift / _SHIFT_MEDIAN) / _SHIFT_SPREAD) ** 2
    # The grids are by ratios: each point stands for an interval of its size.
    fits += np.log(of_run) - 0.5 * (of_run / _RUN_DEVIATION) ** 2
    likely = np.exp(fits - fits.max())
    likely /= likely.sum()
    return Unlike(*(float(np.sqrt(likely @ squares**2)) for squares in (of_shift, of_run)))
