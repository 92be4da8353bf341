"""Predicting 100,000 architectures at once, against a loop over a dictionary of latencies.

    OPENBLAS_NUM_THREADS=1 python benchmarks/prediction_speed.py

The loop is what published code does for each architecture: list its ops, look each up by key,
add. It runs on 1,000 of the same architectures and must give the same numbers. Then OFA's MLP
(random weights of its shape) against nothing but its matrix products, by NumPy and by onnxruntime,
in batches of the size that is quickest for each. All in CPU time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from lutra.predictors.accuracy.ofa_mlp import Encoding, OfaMlpPredictor
from lutra.predictors.accuracy.perceptron import Layer, Perceptron, Weights
from lutra.predictors.efficiency.costs import OpCost
from lutra.spaces import get_space

ARCHITECTURES = 100_000
LOOPED = 1_000
SCORED = 20_480
CHUNKS = (256, 512, 1024, 2048)
REPEATS = 7

Product = Callable[[Weights], Weights]


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
    predictor.predict(rows[:1])
    whole = seconds_of(lambda: predictor.predict(rows))
    print(f"MLP, per architecture        {1e6 * whole / SCORED:.2f} us")
    for name, product in (("NumPy", numpy_product), ("onnxruntime", runtime_product)):
        products = [product(layer) for layer in layers]
        inputs = [rng.random((SCORED, size), dtype=np.float32) for size in sizes[:-1]]
        bare = min(seconds_of(partial(multiply, products, inputs, chunk)) for chunk in CHUNKS)
        print(f"its products by {name:12} {1e6 * bare / SCORED:.2f} us, ratio {whole / bare:.2f}")


def numpy_product(layer: Layer) -> Product:
    transposed = np.ascontiguousarray(layer.weight.T)
    return lambda values: values @ transposed


def runtime_product(layer: Layer) -> Product:
    return Perceptron([layer])


def multiply(products: Sequence[Product], inputs: Sequence[Weights], chunk: int) -> None:
    for start in range(0, SCORED, chunk):
        for product, values in zip(products, inputs, strict=True):
            product(values[start : start + chunk])


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds, the least of several times."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
