"""Regression with a prior, against the formulas of a multivariate normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from lutra.errors import NotATableError
from lutra.predictors.efficiency.regression import Assumption, Floats, deviations, most_likely
from lutra.predictors.efficiency.spread import Spread

sizes = st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))


def random_case(count: int, columns: int, seed: int) -> tuple[Floats, Floats, Assumption]:
    random = np.random.default_rng(seed)
    assumed = Assumption(random.normal(size=columns), random.uniform(0.1, 2.0, columns))
    return random.normal(size=(count, columns)), random.normal(size=count), assumed


@given(sizes, st.floats(0.05, 1.0))
def test_the_posterior_is_that_of_the_joint_distribution(
    size: tuple[int, int, int], noise: float
) -> None:
    design, seen, assumed = random_case(*size)
    prior = np.diag(assumed.deviation**2)
    precision = np.linalg.inv(prior) + design.T @ design / noise**2
    covariance = np.linalg.inv(precision)
    mean = assumed.mean + covariance @ design.T @ (seen - design @ assumed.mean) / noise**2
    found = most_likely(design, seen, [assumed], {noise: 0.0})
    assert np.allclose(found.mean, mean)
    assert np.allclose(found.covariance, covariance)
    spread = deviations(design, found.covariance, found.noise)
    assert (spread >= noise * (1.0 - 1e-9)).all()


@given(sizes)
def test_what_was_seen_is_likeliest_under_what_is_chosen(size: tuple[int, int, int]) -> None:
    design, seen, assumed = random_case(*size)
    others = [assumed, Assumption(0.0 * assumed.mean, 0.3 * assumed.deviation)]
    noises = {0.1: -0.5, 0.5: 0.0, 2.0: -1.0}
    evidence = {
        (index, noise): plausibility
        + multivariate_normal.logpdf(
            seen,
            design @ item.mean,
            (design * item.deviation**2) @ design.T + noise**2 * np.eye(len(seen)),
        )
        for index, item in enumerate(others)
        for noise, plausibility in noises.items()
    }
    index, noise = max(evidence, key=lambda key: float(evidence[key]))
    found = most_likely(design, seen, others, noises)
    assert found.noise == noise
    assert np.allclose(found.mean, most_likely(design, seen, [others[index]], {noise: 0.0}).mean)


def test_what_is_not_needed_is_not_assumed() -> None:
    """Columns that explain nothing are given no room: fewer assumptions are the likelier ones."""
    random = np.random.default_rng(2)
    design = random.normal(size=(30, 8))
    assumptions = [Assumption(np.zeros(8), np.array([1.0] + [room] * 7)) for room in (0.0, 0.5)]
    alone: Floats = design[:, 0] + 0.1 * random.normal(size=30)
    noises = {0.1: 0.0}
    assert np.allclose(most_likely(design, alone, assumptions, noises).mean[1:], 0.0)
    together = alone + design[:, 1:] @ random.normal(size=7)
    assert np.abs(most_likely(design, together, assumptions, noises).mean[1:]).max() > 0.1


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
