"""How parts add up: features, prices, and what is stored of them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import NotATableError
from lutra.predictors.efficiency.composition import (
    TERMS,
    Composition,
    kernel_counts,
    op_features,
    stages_of,
)
from lutra.spaces import get_space
from tests.conftest import SPACE

space = get_space(SPACE)
STAGES = stages_of(space.ops)
coefficients = st.floats(0.0, 1e6)
compositions = st.builds(
    Composition,
    *[coefficients] * 6,
    stages=st.dictionaries(st.text(max_size=8), coefficients, max_size=4),
)


def stored(**changes: Any) -> dict[str, Any]:
    return {**Composition().to_json(), **changes}


def test_unmeasured_units_stay_unknown() -> None:
    latencies = np.ones(len(space.ops))
    latencies[3] = np.nan
    prices = Composition().prices(op_features(space.ops, latencies), STAGES)
    assert np.flatnonzero(np.isnan(prices)).tolist() == [3]


def test_kernels_are_the_nodes_of_a_unit_s_graph() -> None:
    counts = kernel_counts(space.ops)
    assert counts.tolist() == [len(op.graph.nodes) for op in space.ops]
    features = op_features(space.ops, np.ones(len(space.ops)))
    assert np.array_equal(features[:, TERMS.index("per_kernel_ms")], counts)


def test_each_kernel_costs() -> None:
    features = op_features(space.ops, np.ones(len(space.ops)))
    prices = Composition(per_kernel_ms=0.25).prices(features, STAGES)
    assert np.allclose(prices, 1.0 + 0.25 * kernel_counts(space.ops))


def test_a_stage_costs_a_share_of_its_ops() -> None:
    latencies = np.arange(1.0, len(space.ops) + 1.0)
    prices = Composition(stages={STAGES[2]: 0.5}).prices(op_features(space.ops, latencies), STAGES)
    own = [f"{op.kind}-{op.output_shape.channels}" == STAGES[2] for op in space.ops]
    assert any(own)
    assert np.allclose(prices, np.where(own, 1.5, 1.0) * latencies)


@given(compositions)
def test_json_round_trips(composition: Composition) -> None:
    assert Composition.from_json(composition.to_json()) == composition


def test_coefficients_from_before_kernels_counted_are_read() -> None:
    old = {
        "scale": 0.9,
        "per_unit_ms": 0.01,
        "border_ms_per_mb": 0.02,
        "weight_ms_per_mb": 0.03,
        "constant_ms": 0.04,
    }
    assert Composition.from_json(old) == Composition(0.9, 0.01, 0.02, 0.03, 0.04)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"scale": 1.0},
        {name: 0.0 for name in TERMS},
        stored(scale=float("nan")),
        stored(scale=float("inf")),
        stored(scale=10**400),
        stored(scale="1"),
        stored(scale=True),
        stored(scale=None),
        stored(scale=[1.0]),
        stored(x=1.0),
        stored(launch=stored()),
        stored(stages=[]),
        stored(stages={"mbconv-16": "1"}),
        stored(stages={"mbconv-16": float("nan")}),
    ],
)
def test_damaged_json_is_refused(document: object) -> None:
    with pytest.raises(NotATableError, match="lutra calibrate"):
        Composition.from_json(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from([*Composition().to_json(), "x"]), json_values)


@given(json_values | documents)
def test_any_json_is_read_or_refused(document: object) -> None:
    try:
        composition = Composition.from_json(document)
    except NotATableError:
        return
    assert all(np.isfinite(value) and value >= 0 for value in composition.to_json().values())
