"""Peaks over ops: extremes by trying all, and the same limit as a sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.emitters.emission import Emission
from lutra.errors import UsageError
from lutra.ops.liveness import peak_activation_elements
from lutra.predictors.efficiency.memory import PeakCost, memory_cost
from lutra.spaces import get_space
from tests.search.synthetic import MBV3
from tests.search.tiny import TINY

sizes = st.lists(st.integers(1, 9), min_size=len(TINY.ops), max_size=len(TINY.ops))


@settings(max_examples=50)
@given(sizes, st.sampled_from([[8], [16], [8, 16]]), st.integers(0, 10))
def test_extremes_and_limits_are_those_of_all_architectures(
    drawn: list[int], resolutions: list[int], maximum: int
) -> None:
    peak = PeakCost("memory", "bytes", TINY, np.array(drawn, dtype=np.float64))
    rows = TINY.every_row
    rows = rows[np.isin(rows[:, -1], TINY.resolution_indices(resolutions))]
    values = np.array([max(drawn[op] for op in ops) for ops in TINY.op_indices(rows)])
    assert peak.of(rows).tolist() == values.tolist()
    lowest, row = peak.cheapest(resolutions)
    assert lowest == values.min() == peak.of(row[None, :])[0]
    assert peak.most(resolutions) == values.max()
    as_a_sum = peak.within(maximum).of(rows)
    assert np.array_equal(np.isfinite(as_a_sum), values <= maximum)
    assert not as_a_sum[np.isfinite(as_a_sum)].any()


def test_without_a_resolution_there_is_no_extreme() -> None:
    with pytest.raises(UsageError, match="at least one resolution"):
        memory_cost(TINY, 4).cheapest([])


def test_bytes_are_those_of_the_precision_and_the_batch() -> None:
    space = get_space(MBV3)
    row = space.sample(1, np.random.default_rng(0))
    elements = peak_activation_elements(space.graph(space.decode(row[0])))
    assert memory_cost(space, 1).of(row)[0] == elements
    assert memory_cost(space, 4, batch=8).of(row)[0] == 32 * elements
    assert Emission("onnx", "fp16").feature_bytes == 2
    assert Emission("tflite", "fp16").feature_bytes == 4  # half-precision weights alone
    assert Emission("tflite", "int8").feature_bytes == 1
