"""Linear regression with a Gaussian prior: coefficients, how sure they are, and the evidence.

The textbook's Bayesian linear regression (Bishop 2006, section 3.3 and 3.5): what is assumed of
the coefficients and of the noise is itself chosen by how likely it makes what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Assumption:
    """What is assumed before anything is seen: (k,) means and standard deviations, and the noise.

    ``plausibility`` is the natural logarithm of how likely the assumption itself is.
    """

    mean: Floats
    deviation: Floats
    noise: float
    plausibility: float = 0.0


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


def most_likely(design: Floats, seen: Floats, assumptions: Iterable[Assumption]) -> Posterior:
    """Of (N, k) and (N,): the posterior under the assumption with the most evidence."""
    return max(
        (_posterior(design, seen, assumption) for assumption in assumptions),
        key=lambda result: result[0],
    )[1]


def _posterior(design: Floats, seen: Floats, assumed: Assumption) -> tuple[float, Posterior]:
    """The log evidence of an assumption, but for a constant, and the posterior under it."""
    loads = design * assumed.deviation
    unexplained = seen - design @ assumed.mean
    among = loads @ loads.T + assumed.noise**2 * np.eye(len(seen))
    root = np.linalg.cholesky(among)
    white, white_loads = np.linalg.solve(root, unexplained), np.linalg.solve(root, loads)
    evidence = -0.5 * white @ white - np.log(np.diag(root)).sum() + assumed.plausibility
    mean = assumed.mean + assumed.deviation * (white_loads.T @ white)
    shrunk = np.eye(design.shape[1]) - white_loads.T @ white_loads
    covariance = assumed.deviation[:, None] * shrunk * assumed.deviation
    return float(evidence), Posterior(mean, covariance, assumed.noise)
