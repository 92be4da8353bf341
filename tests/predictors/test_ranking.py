"""Kendall's tau is scipy's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.predictors.ranking import kendall_tau

FEW = st.integers(-3, 3).map(float)  # ties
MANY = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(FEW | MANY, FEW | MANY), min_size=2, max_size=40))
def test_tau_is_scipy_s(pairs: list[tuple[float, float]]) -> None:
    from scipy.stats import kendalltau  # not at the top: each worker of pytest would import it

    first, second = np.array(pairs).T
    expected = float(kendalltau(first, second).statistic)
    assert kendall_tau(first, second) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_no_order_has_no_tau(values: list[float]) -> None:
    assert math.isnan(kendall_tau(np.array(values), np.arange(len(values), dtype=np.float64)))
