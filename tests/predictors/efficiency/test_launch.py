"""What launches cost, told from what ops took alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.predictors.efficiency.launch import launch_latencies

KERNELS = np.array([1.0, 4.0, 6.0, 12.0, 12.0])


def test_nothing_is_known_where_no_unit_was_held_up() -> None:
    device = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert launch_latencies(1.05 * device, device, KERNELS) is None
    assert launch_latencies(np.full(5, np.nan), device, KERNELS) is None


@given(st.floats(0.0, 0.05), st.floats(0.001, 0.05))
def test_a_run_s_own_cost_is_told_from_its_kernels(run_ms: float, kernel_ms: float) -> None:
    alone = run_ms + kernel_ms * KERNELS
    launches = launch_latencies(alone, alone / 3, KERNELS)
    assert launches == pytest.approx(kernel_ms * KERNELS, rel=1e-6)


def test_what_a_busy_device_hides_is_what_kernels_cost_elsewhere() -> None:
    alone = 0.01 + 0.005 * KERNELS
    device = alone / 3
    alone[3], device[3] = 9.0, 9.0
    launches = launch_latencies(alone, device, KERNELS)
    assert launches == pytest.approx(0.005 * KERNELS, rel=1e-6)


def test_units_of_like_size_count_whole() -> None:
    kernels = np.array([11.0, 12.0, 12.0])
    alone = np.array([0.11, 0.10, 0.12])
    assert launch_latencies(alone, alone / 2, kernels) == pytest.approx(alone)


@given(
    st.lists(
        st.tuples(
            st.floats(1e-3, 10.0) | st.just(float("nan")),
            st.floats(1e-3, 10.0) | st.just(float("nan")),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_launches_are_between_nothing_and_what_the_unit_took(
    ops: list[tuple[float, float, int]],
) -> None:
    alone, device, kernels = (np.array(column, dtype=float) for column in zip(*ops, strict=True))
    launches = launch_latencies(alone, device, kernels)
    if launches is None:
        assert not (alone > 1.1 * device).any()
        return
    known = ~np.isnan(alone) & ~np.isnan(device)
    assert np.array_equal(np.isnan(launches), ~known)
    assert ((launches[known] >= 0) & (launches[known] <= alone[known])).all()
