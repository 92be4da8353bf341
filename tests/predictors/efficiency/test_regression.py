"""Regression with a prior, against the formulas of a multivariate normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import NotATableError
from lutra.predictors.efficiency.regression import Assumption, Floats, deviations, most_likely
from lutra.predictors.efficiency.spread import Spread

sizes = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))


def random_case(count: int, columns: int, seed: int) -> tuple[Floats, Assumption]:
    random = np.random.default_rng(seed)
    assumed = Assumption(
        random.normal(size=columns), random.uniform(0.1, 2.0, columns), random.uniform(0.05, 1.0)
    )
    return random.normal(size=(count, columns)), assumed


@given(sizes)
def test_the_posterior_is_that_of_the_joint_distribution(size: tuple[int, int, int]) -> None:
    design, assumed = random_case(*size)
    seen = np.random.default_rng(7).normal(size=len(design))
    prior = np.diag(assumed.deviation**2)
    precision = np.linalg.inv(prior) + design.T @ design / assumed.noise**2
    covariance = np.linalg.inv(precision)
    mean = assumed.mean + covariance @ design.T @ (seen - design @ assumed.mean) / assumed.noise**2
    found = most_likely(design, seen, [assumed])
    assert np.allclose(found.mean, mean)
    assert np.allclose(found.covariance, covariance)
    spread = deviations(design, found.covariance, found.noise)
    assert (spread >= found.noise * (1.0 - 1e-9)).all()


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_evidence_finds_the_noise(noise: float) -> None:
    random = np.random.default_rng(1)
    design = random.normal(size=(60, 3))
    seen = design @ np.array([1.0, -0.5, 2.0]) + noise * random.normal(size=60)
    assumptions = [Assumption(np.zeros(3), np.full(3, 3.0), level) for level in (0.01, 0.1, 1.0)]
    assert most_likely(design, seen, assumptions).noise == noise


def test_what_is_not_needed_is_not_assumed() -> None:
    """Columns that explain nothing are given no room: fewer assumptions are the likelier ones."""
    random = np.random.default_rng(2)
    design = random.normal(size=(30, 8))
    assumptions = [
        Assumption(np.zeros(8), np.array([1.0] + [room] * 7), 0.1) for room in (0.0, 0.5)
    ]
    alone: Floats = design[:, 0] + 0.1 * random.normal(size=30)
    assert np.allclose(most_likely(design, alone, assumptions).mean[1:], 0.0)
    together = alone + design[:, 1:] @ random.normal(size=7)
    assert np.abs(most_likely(design, together, assumptions).mean[1:]).max() > 0.1


def test_far_from_what_was_seen_is_less_sure() -> None:
    spread = Spread((0,), ((0.01, 0.0), (0.0, 0.0)), noise=0.01, typical=0.02)
    features = np.array([[1.0], [10.0]])
    near, far = spread.widening(features, np.array([1.0, 1.0]))
    assert near == pytest.approx(np.hypot(0.1, 0.01) / 0.02)
    assert far == pytest.approx(np.hypot(1.0, 0.01) / 0.02)
    assert Spread.from_json(None, 1) is None


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"columns": [5], "covariance": [[1, 0], [0, 1]], "noise": 1, "typical": 1},
        {"columns": [0], "covariance": [[1]], "noise": 1, "typical": 1},
        {"columns": [0], "covariance": [[1, 0], [0, 1e999]], "noise": 1, "typical": 1},
        {"columns": [0], "covariance": [[1, 0], [0, 1]], "noise": 0, "typical": 1},
        {"columns": [0], "covariance": [[1, 0], [0, 1]], "noise": 1, "typical": None},
        {"columns": [10**400], "covariance": [[1, 0], [0, 1]], "noise": 1, "typical": 1},
        {"columns": [0], "covariance": [[1, 0], [0]], "noise": 1, "typical": 1},
    ],
)
def test_a_damaged_spread_is_refused(document: object) -> None:
    with pytest.raises(NotATableError, match="lutra calibrate"):
        Spread.from_json(document, 1)
