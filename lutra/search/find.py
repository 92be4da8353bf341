"""The search itself: a table, limits and an accuracy predictor in, a result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lutra.errors import UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.algorithms import get_algorithm
from lutra.search.algorithms.presets import AUTO, resolve
from lutra.search.question import Maxima, TableOrPath, ask, searched_resolutions
from lutra.search.result import SearchResult
from lutra.spaces import SearchSpace

KEPT = 10


def find_networks(
    table: TableOrPath,
    *,
    max_latency_ms: float | None = None,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_memory: float | None = None,
    other_tables: Mapping[str | Path, float | None] | None = None,
    space: SearchSpace | str | None = None,
    accuracy: AccuracyPredictor | str | Path | None = None,
    algorithm: str = AUTO,
    preset: str | None = None,
    seed: int = 0,
    resolutions: Sequence[int] | None = None,
    hyperparameters: Mapping[str, float] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """The most accurate subnets within all limits, best first; nothing is measured.

    ``max_latency_ms`` (ms), ``max_macs`` (multiply-accumulates), ``max_params`` (parameters) and
    ``max_memory`` (peak activation memory, bytes) are the limits, and each of ``other_tables``
    has one of its own in ms, such as ``{"board.lut": 50.0}``; at least one in all. With None a
    table is only predicted with. ``accuracy`` is a predictor or what `load_accuracy` takes; by
    default the one of the space. Searches the ``resolutions`` (pixels) that the tables and the
    accuracy predictor know, or those given. ``algorithm`` is by default
    ``exact``, which proves what it finds, where the accuracy is additive, else ``surrogate``;
    ``preset`` names published settings (`PRESETS`) in its place. ``hyperparameters`` are the
    algorithm's; ``on_step`` is told how many of its steps are done and how many there are. Ctrl-C
    ends a search with the best so far.

    Raises `InfeasibleError` at once when the limits cannot be met, `UsageError` without a limit or
    for unknown names, `AccuracyError` and `TableError`, for tables of different spaces too.

    >>> result = find_networks("cpu.lut", max_latency_ms=5)
    >>> result.best.predicted_ms <= 5, result.best.architecture.r
    (True, 224)
    """
    maxima = Maxima(
        latency_ms=max_latency_ms,
        macs=max_macs,
        params=max_params,
        memory_bytes=max_memory,
        other_tables=other_tables or {},
    )
    question = ask(table, maxima, space=space, accuracy=accuracy, resolutions=resolutions)
    problem = question.problem
    if not problem.limits:
        raise UsageError("a search needs a limit: --max-latency 20ms or --max-flops 300M")
    algorithm, settings = resolve(algorithm, preset, problem.accuracy)
    method = get_algorithm(algorithm)
    try:
        chosen = method.hyperparameters(**{"keep": KEPT, **settings, **(hyperparameters or {})})
    except TypeError as error:
        raise UsageError(f"algorithm '{algorithm}' does not take that setting: {error}") from error
    started = time.process_time()
    found = method.run(problem, chosen, np.random.default_rng(seed), on_step)
    cpu_seconds = time.process_time() - started
    return question.result(
        question.candidates(found.rows, found.accuracy),
        algorithm=algorithm,
        seed=seed,
        settings=asdict(chosen),
        evaluations=found.evaluations,
        cpu_seconds=cpu_seconds,
        notes=found.notes,
    )


def half_way_budget_ms(predictor: EfficiencyPredictor, accuracy: AccuracyPredictor) -> float:
    """Half-way between the fastest and the slowest subnet that can be searched, in ms."""
    resolutions, _ = searched_resolutions(predictor, accuracy)
    fastest = predictor.latency.cheapest(resolutions)[0]
    slowest = predictor.latency.dearest(resolutions)[0]
    return (fastest + slowest) / 2.0
