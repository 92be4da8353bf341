"""Linear regression with a Gaussian prior: coefficients, how sure they are, and the evidence.

The textbook's Bayesian linear regression (Bishop 2006, section 3.3 and 3.5): what is assumed of
the coefficients and of the noise is itself chosen by how likely it makes what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Assumption:
    """What is assumed before anything is seen: (k,) means and standard deviations."""

    mean: Floats
    deviation: Floats


@dataclass(frozen=True)
class Posterior:
    """The coefficients (k,) given what was seen, their covariance (k, k), and the noise."""

    mean: Floats
    covariance: Floats
    noise: float


def deviations(design: Floats, covariance: Floats, noise: float) -> Floats:
    """(N, k), (k, k) -> (N,): the standard deviation of what would be seen there."""
    model = np.einsum("nk,kl,nl->n", design, covariance, design)
    result: Floats = np.sqrt(np.maximum(model, 0.0) + noise**2)
    return result


def most_likely(
    design: Floats,
    seen: Floats,
    assumptions: Iterable[Assumption],
    noises: Mapping[float, float],
) -> Posterior:
    """Of (N, k) and (N,): the posterior under the assumption and the noise with the most evidence.

    ``noises`` are standard deviations of what is seen, each with the natural logarithm of how
    plausible it is by itself.
    """
    cases = [_Case.of(design, seen, assumption) for assumption in assumptions]
    levels = np.array(list(noises))
    evidence = np.stack([case.evidence(levels) for case in cases]) + list(noises.values())
    best, level = np.unravel_index(int(evidence.argmax()), evidence.shape)
    return cases[best].posterior(float(levels[level]))


@dataclass(frozen=True)
class _Case:
    """An assumption in the directions in which its coefficients differ: one decomposition serves
    every level of noise.

    ``strengths`` (d,) are the singular values of the design times the deviations, ``axes`` (d, k)
    its right singular vectors; ``along`` (d,) is what the means leave unexplained along the left
    ones, ``rest`` the square of what lies along none of them.
    """

    assumed: Assumption
    strengths: Floats
    axes: Floats
    along: Floats
    rest: float
    count: int

    @classmethod
    def of(cls, design: Floats, seen: Floats, assumed: Assumption) -> _Case:
        left, strengths, axes = np.linalg.svd(design * assumed.deviation, full_matrices=False)
        unexplained = seen - design @ assumed.mean
        along = left.T @ unexplained
        rest = max(float(unexplained @ unexplained - along @ along), 0.0)
        return cls(assumed, strengths, axes, along, rest, len(seen))

    def evidence(self, noises: Floats) -> Floats:
        """(noises,): the log evidence, but for a constant."""
        squares = noises[:, None] ** 2
        among = self.strengths**2 + squares
        misfit = (self.along**2 / among).sum(axis=1) + self.rest / squares[:, 0]
        free = self.count - len(self.strengths)
        volume = np.log(among).sum(axis=1) + free * np.log(squares[:, 0])
        result: Floats = -0.5 * (misfit + volume)
        return result

    def posterior(self, noise: float) -> Posterior:
        among = self.strengths**2 + noise**2
        deviation = self.assumed.deviation
        mean = self.assumed.mean + deviation * ((self.strengths / among * self.along) @ self.axes)
        known = (self.axes.T * (self.strengths**2 / among)) @ self.axes
        covariance = deviation[:, None] * (np.eye(len(deviation)) - known) * deviation
        return Posterior(mean, covariance, noise)
