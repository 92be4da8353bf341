"""The runtime computes what the layers say, however many rows are given at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.predictors.accuracy.perceptron import Layer, Perceptron

sizes = st.lists(st.integers(1, 40), min_size=2, max_size=5)


@settings(max_examples=25)
@given(sizes, st.integers(1, 600), st.integers(0, 1 << 30))
def test_it_is_what_numpy_computes(sizes: list[int], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [
        Layer(
            rng.normal(size=(out, into)).astype(np.float32),
            rng.normal(size=out).astype(np.float32),
        )
        for into, out in pairwise(sizes)
    ]
    features = rng.normal(size=(rows, sizes[0])).astype(np.float32)
    perceptron = Perceptron(layers)
    expected = features.astype(np.float64)
    scale = np.abs(expected)  # of what is summed, which may cancel
    for number, (weight, bias) in enumerate(layers):
        expected = expected @ weight.T.astype(np.float64) + bias
        scale = scale @ np.abs(weight).T + np.abs(bias)
        if number < len(layers) - 1:
            expected = np.maximum(expected, 0.0)
    np.testing.assert_allclose(perceptron(features) / scale, expected / scale, atol=1e-5)
    np.testing.assert_allclose(
        perceptron(features[:1]) / scale[:1], expected[:1] / scale[:1], atol=1e-5
    )


def test_numbers_beyond_floats_are_no_error_of_the_runtime() -> None:
    """Who reads the output says that it is no accuracy."""
    huge = Layer(np.full((1, 2), 3e38, np.float32), np.zeros(1, np.float32))
    assert np.isinf(Perceptron([huge])(np.ones((1, 2), np.float32))).all()
