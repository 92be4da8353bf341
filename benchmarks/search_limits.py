"""The algorithms on the published tables of a Note10 with OFA's published accuracy predictor.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.search_limits [SEEDS [FOLDER]]

For each budget and algorithm: the lowest, median and highest predicted accuracy over the seeds, and
the median CPU seconds. Then the optimum and the front of an additive accuracy over 25 resolutions.
FOLDER holds ``ofa_note10_tables`` and ``ofa_accuracy_predictor`` (default: ../shared/data). The
finder of OFA's own package is run where that can be imported (it needs torchvision).
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from lutra.search.algorithms import algorithm_names, get_algorithm
from lutra.search.algorithms.front import exact_front
from lutra.search.algorithms.presets import PRESETS
from tests.search import note10
from tests.search.additive import additive_problem

SEEDS = 10
RUN_BY_ANOTHER = "exact"  # with a predictor that is not additive it is ``surrogate``
Value = TypeVar("Value")


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data")
    tables, predictor = folder / note10.TABLES, folder / note10.PREDICTOR
    print(f"{'budget':>7} {'algorithm':20} {'min':>8} {'median':>8} {'max':>8} {'CPU s':>6}")
    for budget_ms, best in note10.BEST_KNOWN.items():
        print(f"{budget_ms:7} {'best known':20} {best:8.4f}")
        for name in [*algorithm_names(), *PRESETS]:
            if name != RUN_BY_ANOTHER:
                compare(name, tables, predictor, budget_ms, seeds)
    additive()
    try:
        importlib.import_module("ofa.tutorial")
    except ImportError as error:
        print(f"OFA's own finder is not compared: {error}")


def compare(name: str, tables: Path, predictor: Path, budget_ms: float, seeds: int) -> None:
    preset = PRESETS.get(name)
    algorithm = get_algorithm(preset.algorithm if preset else name)
    chosen = algorithm.hyperparameters(keep=10, **(preset.hyperparameters if preset else {}))
    accuracy, seconds = [], []
    for seed in range(seeds):
        made = note10.problem(tables, predictor, budget_ms)
        rng = np.random.default_rng(seed)
        found, took = timed(algorithm.run, made, chosen, rng)
        accuracy.append(found.accuracy[0])
        seconds.append(took)
    low, middle, high = np.quantile(accuracy, [0.0, 0.5, 1.0])
    print(
        f"{budget_ms:7} {name:20} {low:8.4f} {middle:8.4f} {high:8.4f} {np.median(seconds):6.2f}",
        flush=True,
    )


def additive() -> None:
    made = additive_problem(2.0)
    algorithm = get_algorithm("exact")
    for keep in (1, 10, 100):
        chosen = algorithm.hyperparameters(keep=keep)
        found, took = timed(algorithm.run, made, chosen, np.random.default_rng())
        print(f"additive, 25 resolutions: {keep} best, gap {found.gap} points, {took:.3f} CPU s")
    whole = additive_problem(20.0)
    front, took = timed(exact_front, whole)
    print(f"additive, 25 resolutions: front of {len(front.rows)}, {took:.3f} CPU s")


def timed(work: Callable[..., Value], *arguments: object) -> tuple[Value, float]:
    started = time.process_time()
    value = work(*arguments)
    return value, time.process_time() - started


if __name__ == "__main__":
    main()
