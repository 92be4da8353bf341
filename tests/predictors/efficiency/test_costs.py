from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import MissingOpError, UsageError
from lutra.predictors.efficiency.costs import OpCost, macs_cost, params_cost, total_costs
from lutra.spaces import get_space, space_names
from tests.search.synthetic import MBV3, latency


@pytest.mark.parametrize("name", space_names())
def test_counts_are_those_of_the_network(name: str) -> None:
    space = get_space(name)
    rows = space.sample(3, np.random.default_rng(0))
    graphs = [space.graph(space.decode(row)) for row in rows]
    assert macs_cost(space).of(rows).tolist() == [graph.macs for graph in graphs]
    assert params_cost(space).of(rows).tolist() == [graph.params for graph in graphs]
    assert macs_cost(space) is macs_cost(space)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from([MBV3, "ofa-resnet50d"]))
def test_extremes_bound_every_architecture(seed: int, name: str) -> None:
    space = get_space(name)
    prices = np.random.default_rng(seed).normal(size=len(space.ops))
    cost = OpCost("price", "ms", space, prices, constant=2.0)
    low, cheap = cost.cheapest([128, 160])
    high, dear = cost.dearest([128, 160])
    values = cost.of(space.sample(200, np.random.default_rng(seed), [128, 160]))
    assert low <= values.min()
    assert values.max() <= high
    assert cost.of(np.stack([cheap, dear])).tolist() == [low, high]
    for row, sign in ((cheap, 1.0), (dear, -1.0)):
        total = min(space.lattice(r).cheapest(sign * prices)[0] for r in (128, 160))
        assert cost.of(row[None, :])[0] == pytest.approx(sign * total + 2.0)


def test_chunks_do_not_change_a_value() -> None:
    space = get_space(MBV3)
    rows = space.sample(20_000, np.random.default_rng(0))
    values = latency(space).of(rows)
    alone = [latency(space).of(rows[i : i + 1])[0] for i in (0, 8191, 8192, 19_999)]
    assert values[[0, 8191, 8192, 19_999]].tolist() == alone
    both = total_costs([latency(space), macs_cost(space)], rows)
    assert np.array_equal(both[:, 0], values)
    assert total_costs([], rows).shape == (20_000, 0)


def test_hundred_thousand_rows_are_quick() -> None:
    space = get_space(MBV3)
    rows = space.sample(100_000, np.random.default_rng(0))
    cost = macs_cost(space)
    cost.of(rows[:10])
    started = time.process_time()
    cost.of(rows)
    assert time.process_time() - started < 0.5


def test_unknown_prices() -> None:
    space = get_space(MBV3)
    prices = latency(space).prices.copy()
    row = space.sample(1, np.random.default_rng(0), [224])
    prices[space.op_indices(row)[0, 5]] = np.nan
    cost = OpCost("latency", "ms", space, prices)
    assert np.isnan(cost.of(row)).all()
    assert np.isfinite(cost.cheapest([224])[0])
    unmeasured = OpCost("latency", "ms", space, np.full(len(prices), np.nan))
    for extreme in (unmeasured.cheapest, unmeasured.dearest):
        with pytest.raises(MissingOpError, match=r"96 of 96 op configurations.*conv/"):
            extreme([224])


def test_impossible_costs_are_refused() -> None:
    space = get_space(MBV3)
    with pytest.raises(ValueError, match="prices for 1257 ops"):
        OpCost("latency", "ms", space, np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        OpCost("latency", "ms", space, np.full(len(space.ops), np.inf))
    with pytest.raises(UsageError, match="at least one resolution"):
        macs_cost(space).cheapest([])
