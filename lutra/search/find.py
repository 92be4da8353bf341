"""The search itself: a table, limits and an accuracy predictor in, a result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from lutra.errors import UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.algorithms import get_algorithm
from lutra.search.algorithms.base import Hyperparameters
from lutra.search.algorithms.presets import AUTO, resolve
from lutra.search.candidate import surest_first
from lutra.search.precisions import (
    Choice,
    Loss,
    best_first,
    choices_of,
    merged,
    scaled,
    search_each,
)
from lutra.search.question import Maxima, Question, TableOrPath, ask, searched_resolutions
from lutra.search.result import SearchResult
from lutra.spaces import SearchSpace

KEPT = 10
_POOL = 100  # that the surest ones are chosen of


def find_networks(
    table: TableOrPath,
    *,
    max_latency_ms: float | None = None,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_memory: float | None = None,
    other_tables: Mapping[str | Path, float | None] | None = None,
    alternatives: Sequence[TableOrPath] = (),
    accuracy_loss: Mapping[str, Loss] | None = None,
    robust: float | None = None,
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

    ``alternatives`` are calibrated tables of the same device, runtime and space at other
    precisions: each candidate is of any of these (`Candidate.precision`) and predicted by its
    table. ``accuracy_loss`` says how many points a precision costs, ``{"int8": 0.5}``, or by which
    two files of ``lutra evaluate --json``, fp32's and its own; all but fp32 need one. With
    ``robust``, of the candidates at most so many points below the most accurate one those with the
    surest predictions come first; that one stays among them, and a note says which it is.

    Raises `InfeasibleError` at once when the limits cannot be met, `UsageError` without a limit or
    for unknown names, `AccuracyError` and `TableError`, for tables of different spaces too.

    >>> result = find_networks("cpu.lut", max_latency_ms=5)
    >>> result.best.predicted_ms <= 5, result.best.architecture.r
    (True, 224)
    """
    if robust is not None and not 0.0 <= robust <= 100.0:
        raise UsageError(f"robust within {robust:g} points: it is a number from 0 to 100")
    maxima = Maxima(
        latency_ms=max_latency_ms,
        macs=max_macs,
        params=max_params,
        memory_bytes=max_memory,
        other_tables=other_tables or {},
    )
    choices = choices_of(table, alternatives, accuracy_loss or {}, space)
    asked = {"keep": KEPT, **(hyperparameters or {})}
    kept = Hyperparameters(keep=asked["keep"]).keep  # type: ignore[arg-type]
    asked["keep"] = kept if robust is None else max(kept, _POOL)

    def search(choice: Choice, done: Sequence[SearchResult]) -> SearchResult:
        question = ask(
            choice.table,
            maxima,
            space=space,
            accuracy=accuracy,
            resolutions=resolutions,
            accuracy_loss=choice.loss,
        )
        return _answer(
            question,
            algorithm,
            preset,
            seed,
            asked,
            scaled(on_step, len(done), len(choices)),
        )

    result = search_each(choices, search, lambda found: merged(found, best_first(found)))
    if robust is not None:
        return _robust(result, robust, kept)
    return replace(result, candidates=result.candidates[:kept])


def _robust(result: SearchResult, points: float, kept: int) -> SearchResult:
    """The surest of the near-equal candidates first; ``kept`` of all, the most accurate among them.

    At least both are kept where they differ.
    """
    most = result.best
    ordered = surest_first(result.candidates, points)
    near = sum(each.accuracy >= most.accuracy - points for each in ordered)
    candidates = ordered[:kept]
    if most not in candidates:
        candidates = (*ordered[: max(kept - 1, 1)], most)
    first, place = candidates[0], 1 + candidates.index(most)
    note = (
        f"of {near} candidates within {points:g} points of the most accurate the surest comes"
        f" first, with {first.unsure_percent:.3g} % by its interval and rows"
    )
    if first.unsure_percent == 0.0:
        note = "the table does not say how sure predictions are: candidates stay as they were"
    elif place == 1:
        note += ": it is the most accurate one"
    else:
        note += (
            f"; the most accurate, candidate {place}, has {most.unsure_percent:.3g} % and"
            f" {most.accuracy - first.accuracy:.2g} points more"
        )
    settings = {**result.hyperparameters, "keep": kept, "robust": points}
    notes = (*result.notes, note)
    return replace(result, candidates=candidates, hyperparameters=settings, notes=notes)


def _answer(
    question: Question,
    algorithm: str,
    preset: str | None,
    seed: int,
    hyperparameters: Mapping[str, float],
    on_step: Callable[[int, int], None] | None,
) -> SearchResult:
    """The answer of one table."""
    problem = question.problem
    if not problem.limits:
        raise UsageError("a search needs a limit: --max-latency 20ms or --max-flops 300M")
    algorithm, settings = resolve(algorithm, preset, problem.accuracy)
    method = get_algorithm(algorithm)
    try:
        chosen = method.hyperparameters(**{**settings, **hyperparameters})
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
