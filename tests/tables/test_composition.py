"""How parts add up: known truths are found again."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import NotATableError
from lutra.search.spaces import get_space
from lutra.tables.composition import TERMS, Composition, fit, unit_features
from tests.conftest import SPACE

space = get_space(SPACE)


def network_features(count: int, seed: int) -> npt.NDArray[Any]:
    """(networks, terms) from made-up unit latencies that grow with MACs and bytes."""
    rng = np.random.default_rng(seed)
    macs = np.array([op.macs for op in space.units])
    latencies = 0.01 + macs / 2e7 * rng.uniform(0.7, 1.3, len(macs))
    padded = np.vstack([unit_features(space.units, latencies), np.zeros(len(TERMS))])
    rows = space.sample(count, rng)
    summed: npt.NDArray[Any] = padded[space.unit_indices(rows)].sum(axis=1)
    return summed


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        Composition,
        st.floats(0.5, 1.5),
        st.floats(0.0, 0.05),
        st.floats(0.0, 0.1),
        st.floats(0.0, 0.1),
        st.floats(0.0, 0.5),
    )
)
def test_noiseless_truth_is_predicted(truth: Composition) -> None:
    train, test = network_features(40, 0), network_features(40, 1)
    fitted = fit(train, truth.prices(train) + truth.constant_ms)
    predicted = fitted.composition.prices(test) + fitted.composition.constant_ms
    expected = truth.prices(test) + truth.constant_ms
    assert np.abs(predicted / expected - 1).max() < 0.02


def test_coefficients_are_never_negative() -> None:
    features = network_features(30, 0)
    fitted = fit(features, 0.9 * features[:, 0] - 0.1)
    assert min(fitted.composition.to_json().values()) >= 0.0


def test_few_networks_fit_only_a_scale() -> None:
    features = network_features(3, 0)
    fitted = fit(features, 0.9 * features[:, 0])
    assert fitted.terms == ("scale",)
    assert fitted.composition.scale == pytest.approx(0.9, rel=1e-3)


def test_noise_is_reported_not_fitted() -> None:
    features = network_features(40, 0)
    noise = np.random.default_rng(1).normal(1.0, 0.03, 40)
    fitted = fit(features, features[:, 0] * noise)
    assert 1.0 < fitted.cv_mape_percent < 4.0
    assert fitted.cv_p95_percent > fitted.cv_mape_percent


def test_unmeasured_units_stay_unknown() -> None:
    latencies = np.ones(len(space.units))
    latencies[3] = np.nan
    prices = Composition().prices(unit_features(space.units, latencies))
    assert np.flatnonzero(np.isnan(prices)).tolist() == [3]


def test_json_round_trips() -> None:
    composition = Composition(0.9, 0.01, 0.02, 0.03, 0.04)
    assert Composition.from_json(composition.to_json()) == composition


@pytest.mark.parametrize(
    "document", [None, [], {}, {"scale": 1.0}, {**Composition().to_json(), "scale": float("nan")},
                 {**Composition().to_json(), "scale": "1"}, {**Composition().to_json(), "x": 1.0}]
)  # fmt: skip
def test_damaged_json_is_refused(document: object) -> None:
    with pytest.raises(NotATableError, match="lutra calibrate"):
        Composition.from_json(document)
