"""Ranges by rule: what each takes in and what it lets saturate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from lutra.emitters.quantization import Range, activation_ranges
from lutra.errors import ModelError, UsageError
from lutra.ops import Graph, GraphBuilder, Shape, seeded_weights
from lutra.supernets.quantization.rules import RangeRule


def one_map(values: npt.NDArray[np.float64], rule: RangeRule, relu: bool = False) -> Range:
    """The range of a feature map of these values, or of what a ReLU leaves of them."""
    builder = GraphBuilder(Shape(1, len(values) // 16, 1))
    graph = builder.build(builder.activation("input", "relu"))
    inputs = values.astype(np.float32).reshape(16, 1, 1, -1)
    return rule.ranges(graph, {}, inputs)[graph.output if relu else "input"]


def normal(count: int = 160_000) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal(count)


def test_max_takes_in_all() -> None:
    values = normal()
    values[7] = 50.0
    assert one_map(values, RangeRule()) == pytest.approx((values.min(), 50.0))


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_a_percentile_is_cut_on_both_sides_alike(percentile: float) -> None:
    values = normal()
    low, high = one_map(values, RangeRule("percentile", percentile))
    cut = (100 - percentile) / 2
    for beyond in (values < low, values > high):
        share = 100 * np.mean(beyond)
        assert 0.9 * cut - 0.02 <= share <= cut, f"{share} %: no more, and a bin less"


def test_a_percentile_of_no_negative_values_is_cut_above() -> None:
    values = np.abs(normal())
    low, high = one_map(values, RangeRule("percentile", 99.0), relu=True)
    assert low == pytest.approx(values.min())
    assert high == pytest.approx(np.percentile(values, 99), abs=0.01)


def test_all_of_the_values_are_max() -> None:
    values = normal()
    expected = one_map(values, RangeRule())
    assert one_map(values, RangeRule("percentile", 100)) == pytest.approx(expected)


@pytest.mark.parametrize("relu", [False, True])
def test_kl_lets_a_few_far_ones_saturate(relu: bool) -> None:
    """And takes in nearly all of a distribution that has none."""
    values = normal()
    plain = one_map(values, RangeRule("kl"), relu)
    values[:16] = 40.0 * np.where(np.arange(16) % 2, 1, -1)
    low, high = one_map(values, RangeRule("kl"), relu)
    assert 2.5 < plain[1] <= 5.0
    assert 2.5 < high < 12.0
    assert low == 0.0 if relu else -12.0 < low < -2.5


def test_a_map_of_one_value_has_its_range() -> None:
    for name in ("percentile", "kl"):
        assert one_map(np.zeros(16), RangeRule(name)) == (0.0, 0.0)


def test_values_that_are_not_finite_are_refused() -> None:
    values = np.zeros(16)
    values[3] = np.nan
    for name in ("max", "percentile", "kl"):
        with pytest.raises(ModelError, match="feature map input has values that are not finite"):
            one_map(values, RangeRule(name))


def test_weights_that_are_not_finite_are_named_by_their_layer() -> None:
    builder = GraphBuilder(Shape(4, 4, 1))
    graph: Graph = builder.build(builder.conv("input", 2, name="conv"))
    weights = seeded_weights(graph) | {"conv.bias": np.array([np.inf, 0], np.float32)}
    with pytest.raises(ModelError, match="feature map conv has values"):
        activation_ranges(graph, weights)


@pytest.mark.parametrize("percentile", [50.0, 0.0, 100.1, -1.0, float("nan")])
def test_percentiles_that_cut_too_much_or_nothing(percentile: float) -> None:
    with pytest.raises(UsageError, match="above 50 and at most 100"):
        RangeRule("percentile", percentile)


def test_unknown_rules() -> None:
    with pytest.raises(UsageError, match="no rule for ranges is called 'mean': max, percentile"):
        RangeRule("mean")
