"""Ops told from whole networks alone."""

import numpy as np
import pytest

from lutra.errors import TableError
from lutra.predictors.efficiency.composition import Floats
from lutra.predictors.filling.from_networks import solve_networks
from lutra.spaces import get_space, sample_networks
from tests.conftest import SPACE
from tests.predictors.filling.pace import latency_ms

space = get_space(SPACE)
RESOLUTIONS = (160, 224)
NETWORKS = sample_networks(space, RESOLUTIONS, 160, 7)
ROWS = np.stack([space.encode(each) for each in NETWORKS])
NOISE = 0.005


def measured() -> Floats:
    alone = np.array([latency_ms(op) for op in space.ops])
    noise = np.random.default_rng(0).standard_normal(len(ROWS))
    took: Floats = (space.op_counts(ROWS) @ alone + 0.2) * np.exp(NOISE * noise)
    return took


def test_a_hundred_networks_tell_what_others_take() -> None:
    """Though there are more ops than networks."""
    took = measured()
    filled, fit = solve_networks(space, RESOLUTIONS, ROWS[:100], took[:100], took[:100, None])
    assert len(filled) == len(space.ops_at(RESOLUTIONS)) > 100
    alone = np.array([filled[op.key].latency_ms if op.key in filled else 0.0 for op in space.ops])
    predicted = space.op_counts(ROWS[100:]) @ alone + fit.composition.constant_ms
    errors = 100.0 * np.abs(predicted / took[100:] - 1.0)
    assert errors.mean() < 2.5 * 100.0 * NOISE
    assert fit.cv_mape_percent == pytest.approx(errors.mean(), rel=0.5)
    assert 0.85 <= np.mean(errors <= fit.interval_percent) <= 1.0
    assert fit.networks == 100


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_ops_that_take_next_to_nothing_make_networks_no_slower(share: float) -> None:
    """Told to take less than nothing, and raised to something, they would make all slower."""
    everywhere = (space.op_counts(ROWS) > 0).mean(axis=0) > 0.45
    alone = np.array([latency_ms(op) for op in space.ops])
    alone[everywhere] *= share
    took = space.op_counts(ROWS) @ alone
    filled, fit = solve_networks(space, RESOLUTIONS, ROWS[:100], took[:100], took[:100, None])
    assert all(each.latency_ms > 0.0 for each in filled.values())
    told = np.array([filled[op.key].latency_ms if op.key in filled else 0.0 for op in space.ops])
    sums = space.op_counts(ROWS) @ told + fit.composition.constant_ms
    assert np.mean(sums[:100] / took[:100]) == pytest.approx(1.0, abs=0.005)
    assert np.mean(sums[100:] / took[100:]) == pytest.approx(1.0, abs=0.01)


def test_too_few_networks_are_refused() -> None:
    took = measured()[:19]
    with pytest.raises(TableError, match=r"19 networks cannot tell .* 20 is the least"):
        solve_networks(space, RESOLUTIONS, ROWS[:19], took, took[:, None])
