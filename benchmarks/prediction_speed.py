"""Predicting 100,000 architectures at once, against a loop over a dictionary of latencies.

    python benchmarks/prediction_speed.py

The loop is what published code does for each architecture: list its ops, look each up by key,
add. It runs on 1,000 of the same architectures and must give the same numbers.
"""

from __future__ import annotations

import time

import numpy as np

from lutra.predictors.efficiency.costs import OpCost
from lutra.spaces import get_space

ARCHITECTURES = 100_000
LOOPED = 1_000


def main() -> None:
    space = get_space("ofa-mbv3-w1.0")
    rng = np.random.default_rng(0)
    cost = OpCost("latency", "ms", space, rng.exponential(size=len(space.ops)))
    rows = space.sample(ARCHITECTURES, rng)
    cost.of(rows[:10])
    started = time.perf_counter()
    predicted = cost.of(rows)
    seconds = time.perf_counter() - started

    latencies = {op.key: float(price) for op, price in zip(space.ops, cost.prices, strict=True)}
    architectures = [space.decode(row) for row in rows[:LOOPED]]
    started = time.perf_counter()
    looped = [sum(latencies[op.key] for op in space.ops_of(item)) for item in architectures]
    loop_seconds = (time.perf_counter() - started) / LOOPED * ARCHITECTURES
    assert np.allclose(predicted[:LOOPED], looped)
    print(f"{ARCHITECTURES} architectures       {seconds:.3f} s")
    print(f"dictionary loop, scaled up   {loop_seconds:.1f} s")
    print(f"ratio                        {loop_seconds / seconds:.0f}")


if __name__ == "__main__":
    main()
