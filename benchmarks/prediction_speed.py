"""Predicting 100,000 architectures at once, against a loop over a dictionary of latencies.

    OPENBLAS_NUM_THREADS=1 python benchmarks/prediction_speed.py

The loop is what published code does for each architecture: list its ops, look each up by key,
add. It runs on 1,000 of the same architectures and must give the same numbers. Then OFA's MLP
(random weights of its shape) against nothing but its matrix products. All in CPU time.
"""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np

from lutra.predictors.accuracy.ofa_mlp import Encoding, Layer, OfaMlpPredictor
from lutra.predictors.efficiency.costs import OpCost
from lutra.spaces import get_space

ARCHITECTURES = 100_000
LOOPED = 1_000
SCORED = 20_480
CHUNK = 2048
REPEATS = 7


def main() -> None:
    space = get_space("ofa-mbv3-w1.0")
    rng = np.random.default_rng(0)
    cost = OpCost("latency", "ms", space, rng.exponential(size=len(space.ops)))
    rows = space.sample(ARCHITECTURES, rng)
    cost.of(rows[:10])
    started = time.process_time()
    predicted = cost.of(rows)
    seconds = time.process_time() - started

    latencies = {op.key: float(price) for op, price in zip(space.ops, cost.prices, strict=True)}
    architectures = [space.decode(row) for row in rows[:LOOPED]]
    started = time.process_time()
    looped = [sum(latencies[op.key] for op in space.ops_of(item)) for item in architectures]
    loop_seconds = (time.process_time() - started) / LOOPED * ARCHITECTURES
    assert np.allclose(predicted[:LOOPED], looped)
    print(f"{ARCHITECTURES} architectures       {seconds:.3f} s")
    print(f"dictionary loop, scaled up   {loop_seconds:.1f} s")
    print(f"ratio                        {loop_seconds / seconds:.0f}")
    print(f"latencies per second         {ARCHITECTURES / seconds:.3g}")
    score()


def score() -> None:
    space = get_space("ofa-mbv3-w1.2")
    rng = np.random.default_rng(0)
    encoding = Encoding.library(space, (128, 160, 192, 224))
    sizes = (encoding.features, 400, 400, 400, 1)
    layers = [
        Layer(
            rng.normal(0.0, 0.02, (out, size)).astype(np.float32),
            np.full(out, 0.5 if out == 1 else 0.0, dtype=np.float32),
        )
        for size, out in pairwise(sizes)
    ]
    predictor = OfaMlpPredictor(encoding, layers, 0.0, "random weights")
    rows = space.sample(SCORED, rng, encoding.resolutions)
    inputs = [rng.random((CHUNK, size), dtype=np.float32) for size in sizes[:-1]]
    transposed = [np.ascontiguousarray(layer.weight.T) for layer in layers]

    def products() -> None:
        for _ in range(SCORED // CHUNK):
            for values, weights in zip(inputs, transposed, strict=True):
                _ = values @ weights

    whole, bare = np.inf, np.inf
    for _ in range(REPEATS):
        started = time.process_time()
        predictor.predict(rows)
        whole = min(whole, time.process_time() - started)
        started = time.process_time()
        products()
        bare = min(bare, time.process_time() - started)
    print(f"MLP, per architecture        {1e6 * whole / SCORED:.2f} us")
    print(f"its matrix products alone    {1e6 * bare / SCORED:.2f} us")
    print(f"ratio                        {whole / bare:.2f}")


if __name__ == "__main__":
    main()
