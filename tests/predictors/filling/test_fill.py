"""What ops take that were not measured, told from those that were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import UsageError
from lutra.ops import MBConv, OpConfig, Shape
from lutra.predictors.filling.design import chosen, most_informative
from lutra.predictors.filling.fill import filled_from_ops
from lutra.predictors.filling.nodes import Floats, OpNodes
from lutra.predictors.filling.process import Scales
from lutra.predictors.filling.sample import Sample
from lutra.spaces import get_space
from tests.conftest import SPACE
from tests.predictors.filling.pace import CLIFF, latency_ms

space = get_space(SPACE)
RESOLUTIONS = (160, 224)
OPS = space.ops_at(RESOLUTIONS)


def errors_of(measured: list[OpConfig]) -> Floats:
    """Relative errors of what is filled in for the others."""
    filled = filled_from_ops(OPS, {op.key: latency_ms(op) for op in measured}).filled
    assert set(filled) == {op.key for op in OPS} - {op.key for op in measured}
    truth = {op.key: latency_ms(op) for op in OPS}
    return np.array([each.latency_ms / truth[key] - 1.0 for key, each in filled.items()])


def test_a_quarter_tells_the_rest() -> None:
    measured = most_informative(space, RESOLUTIONS, len(OPS) // 4)
    errors = np.abs(errors_of(measured))
    assert np.median(errors) < 0.03
    assert np.quantile(errors, 0.9) < 0.12


def test_both_sides_of_a_cliff_are_measured() -> None:
    measured = most_informative(space, RESOLUTIONS, len(OPS) // 8)
    sides = {(op.kernel, op.mid_channels % 16 == 0) for op in measured if isinstance(op, MBConv)}
    assert sides >= {(kernel, fills) for kernel in (5, 7) for fills in (True, False)}


def test_a_cliff_is_not_smoothed_over() -> None:
    """Of two ops alike but for their channels, which were not measured, the right one is slow."""
    measured = most_informative(space, RESOLUTIONS, len(OPS) // 4)
    filled = filled_from_ops(OPS, {op.key: latency_ms(op) for op in measured}).filled
    slow = [
        op
        for op in OPS
        if isinstance(op, MBConv) and op.mid_channels % 16 and op.kernel == 7 and op.key in filled
    ]
    assert slow
    assert CLIFF > 2.0
    for op in slow:
        assert filled[op.key].latency_ms == pytest.approx(latency_ms(op), rel=0.35)


def test_intervals_hold_most() -> None:
    measured = most_informative(space, RESOLUTIONS, len(OPS) // 5)
    filled = filled_from_ops(OPS, {op.key: latency_ms(op) for op in measured}).filled
    truth = {op.key: latency_ms(op) for op in OPS}
    within = [each.low_ms <= truth[key] <= each.high_ms for key, each in filled.items()]
    assert np.mean(within) > 0.85
    assert all(0.0 < each.low_ms <= each.latency_ms <= each.high_ms for each in filled.values())
    assert {each.rows for each in filled.values()} == {len(measured)}


def test_what_is_measured_is_left_alone() -> None:
    assert filled_from_ops(OPS, {op.key: latency_ms(op) for op in OPS}).filled == {}


def test_known_ops_come_first_and_none_twice() -> None:
    known = {op.key for op in OPS[5:9]}
    found = most_informative(space, RESOLUTIONS, 20, known)
    assert {op.key for op in found[:4]} == known
    assert len({op.key for op in found}) == 20
    assert most_informative(space, RESOLUTIONS, 20) == most_informative(space, RESOLUTIONS, 20)
    assert set(most_informative(space, RESOLUTIONS, 10_000)) == set(OPS)


def test_what_networks_do_not_have_is_measured_last() -> None:
    nodes, counts = OpNodes.of(OPS[:10]), np.zeros((3, 10))
    counts[:, [2, 7]] = 1.0
    assert set(chosen(nodes, counts, 2)) == {2, 7}


@settings(max_examples=25)
@given(
    height=st.integers(1, 64),
    channels=st.integers(1, 64).map(lambda each: 8 * each),
    expand=st.sampled_from([3, 4, 6]),
    kernel=st.sampled_from([3, 5, 7]),
    latencies=st.lists(st.floats(1e-4, 1e4), min_size=3, max_size=3),
)
def test_any_ops_and_latencies_give_numbers(
    height: int, channels: int, expand: int, kernel: int, latencies: list[float]
) -> None:
    ops = [
        MBConv(Shape(height, height, channels), channels, mid, kernel, 1, "relu", False, True)
        for mid in (channels * expand, channels * 2, channels * 3 + 8, channels * 5)
    ]
    ops = list(dict.fromkeys(ops))
    known = dict(zip([op.key for op in ops[:-1]], latencies, strict=False))
    for filled in filled_from_ops(ops, known).filled.values():
        assert 0.0 < filled.low_ms <= filled.latency_ms <= filled.high_ms < np.inf


@given(st.lists(st.floats(-2.0, 2.0), min_size=8, max_size=8))
@settings(max_examples=10)
def test_slopes_are_those_of_the_covariance(apart: list[float]) -> None:
    nodes = OpNodes.of(OPS[::30])
    size, step = len(nodes.quantities), 1e-5
    weights = np.random.default_rng(0).normal(size=(size, size))
    values = Scales().values + np.array(apart)
    found = Scales(values).slopes(nodes.alikeness, weights)
    sums = [
        [
            (weights * Scales(values + sign * shift).covariance(nodes.alikeness)).sum()
            for sign in (1.0, -1.0)
        ]
        for shift in step * np.eye(len(values))
    ]
    expected = [(above - below) / (2.0 * step) for above, below in sums]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_samples() -> None:
    assert Sample(share=0.15).ops(100, 1.0, 0.0) == 15
    assert Sample(share=0.001).ops(100, 1.0, 0.0) == 3
    assert Sample(share=0.0).ops(100, 1.0, 0.0) == 0
    assert Sample(seconds=60.0).ops(100, 2.0, 20.0) == 20
    assert Sample(seconds=60.0).ops(10, 2.0, 20.0) == 10
    with pytest.raises(UsageError, match="too short: networks and 3 ops take 26 s"):
        Sample(seconds=21.0).ops(100, 2.0, 20.0)
    for wrong in ({}, {"share": 0.1, "seconds": 3.0}, {"share": 1.5}, {"seconds": 0.0}):
        with pytest.raises(UsageError):
            Sample(**wrong)
