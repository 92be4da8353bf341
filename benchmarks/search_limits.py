"""The algorithms on the published tables of a Note10 with OFA's published accuracy predictor.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m benchmarks.search_limits
        [--seeds FIRST:LAST] [--budgets MS ...] [--algorithms NAME ...] [--data FOLDER]

For each budget and algorithm: the lowest, median and highest predicted accuracy over the seeds, and
the median CPU seconds. Then the optimum and the front of an additive accuracy over 25 resolutions.
FOLDER holds ``ofa_note10_tables`` and ``ofa_accuracy_predictor``. The algorithm ``package-ofa`` is
the finder of OFA's own package, where that is installed and the budget is one that it takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks import ofa_finder
from lutra.search.algorithms import algorithm_names, get_algorithm
from lutra.search.algorithms.front import exact_front
from lutra.search.algorithms.presets import PRESETS
from tests.search import note10
from tests.search.additive import additive_problem

RUN_BY_ANOTHER = "exact"  # with a predictor that is not additive it is ``surrogate``
PACKAGE = "package-ofa"
Value = TypeVar("Value")


def main() -> None:
    given = _arguments()
    tables, predictor = given.data / note10.TABLES, given.data / note10.PREDICTOR
    print(f"{'budget':>7} {'algorithm':20} {'min':>8} {'median':>8} {'max':>8} {'CPU s':>6}")
    for budget_ms in given.budgets:
        if budget_ms in note10.BEST_KNOWN:
            print(f"{budget_ms:7} {'best known':20} {note10.BEST_KNOWN[budget_ms]:8.4f}")
        for name in given.algorithms:
            if name != PACKAGE:
                compare(name, tables, predictor, budget_ms, given.seeds)
            elif budget_ms >= ofa_finder.LEAST_MS:
                compare_package(tables, predictor, budget_ms, given.seeds)
    additive()


def _arguments() -> argparse.Namespace:
    names = [name for name in [*algorithm_names(), *PRESETS] if name != RUN_BY_ANOTHER]
    if importlib.util.find_spec("ofa") is not None:
        names.append(PACKAGE)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=range(10), metavar="FIRST:LAST")
    parser.add_argument("--budgets", type=float, nargs="+", default=list(note10.BEST_KNOWN))
    parser.add_argument("--algorithms", nargs="+", choices=names, default=names)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    return parser.parse_args()


def _seeds(text: str) -> range:
    """``10:19``: ten seeds, both ends among them."""
    first, _, last = text.partition(":")
    return range(int(first), int(last or first) + 1)


def compare(name: str, tables: Path, predictor: Path, budget_ms: float, seeds: range) -> None:
    preset = PRESETS.get(name)
    algorithm = get_algorithm(preset.algorithm if preset else name)
    chosen = algorithm.hyperparameters(keep=10, **(preset.hyperparameters if preset else {}))
    results = []
    for seed in seeds:
        made = note10.problem(tables, predictor, budget_ms)
        rng = np.random.default_rng(seed)
        found, took = timed(algorithm.run, made, chosen, rng)
        results.append((float(found.accuracy[0]), took))
    report(name, budget_ms, results)


def compare_package(tables: Path, predictor: Path, budget_ms: float, seeds: range) -> None:
    made = ofa_finder.finder(tables, predictor, budget_ms)
    report(PACKAGE, budget_ms, [timed(ofa_finder.best_accuracy, made, seed) for seed in seeds])


def report(name: str, budget_ms: float, results: list[tuple[float, float]]) -> None:
    """A line of accuracies in percent and CPU seconds (one pair per seed)."""
    accuracy, seconds = zip(*results, strict=True)
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
