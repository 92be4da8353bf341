"""The search for a front: tables, limits and an accuracy predictor in, a result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lutra.errors import UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.search.algorithms.base import UNPROVED
from lutra.search.candidate import Candidate
from lutra.search.fronts.dominance import nondominated, spread_out
from lutra.search.fronts.nsga2 import Nsga2Hyperparameters, nsga2
from lutra.search.fronts.objectives import ACCURACY, objectives_of, value_of
from lutra.search.precisions import (
    Choice,
    Loss,
    best_first,
    choices_of,
    merged,
    scaled,
    search_each,
)
from lutra.search.question import Maxima, TableOrPath, ask
from lutra.search.result import SearchResult
from lutra.spaces import SearchSpace

NSGA2 = "nsga2"
DEFAULT_OBJECTIVES = (ACCURACY, "latency")


def find_front(
    table: TableOrPath,
    *,
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    max_latency_ms: float | None = None,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_memory: float | None = None,
    other_tables: Mapping[str | Path, float | None] | None = None,
    alternatives: Sequence[TableOrPath] = (),
    accuracy_loss: Mapping[str, Loss] | None = None,
    space: SearchSpace | str | None = None,
    accuracy: AccuracyPredictor | str | Path | None = None,
    seed: int = 0,
    resolutions: Sequence[int] | None = None,
    hyperparameters: Mapping[str, float] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """The subnets that no other one beats in all ``objectives``, the most accurate first.

    Objectives are ``accuracy`` (percent, the more the better), ``latency`` (ms, of ``table``),
    ``macs``, ``params``, ``memory`` (peak activation memory, bytes) and the paths of
    ``other_tables`` (their latency); at least two. Limits are not needed. Everything else is as in
    `find_networks`; the ``hyperparameters`` are those of NSGA-II (`Nsga2Hyperparameters`).

    Raises like `find_networks`, and `UsageError` for unknown objectives.

    >>> front = find_front("cpu.lut", hyperparameters={"generations": 20})
    >>> best, fastest = front.candidates[0], front.candidates[-1]
    >>> best.accuracy > fastest.accuracy, best.predicted_ms > fastest.predicted_ms
    (True, True)
    """
    maxima = Maxima(
        latency_ms=max_latency_ms,
        macs=max_macs,
        params=max_params,
        memory_bytes=max_memory,
        other_tables=other_tables or {},
    )
    try:
        settings = Nsga2Hyperparameters(**dict(hyperparameters or {}))  # type: ignore[arg-type]
    except TypeError as error:
        raise UsageError(f"{NSGA2} does not take that setting: {error}") from error
    choices = choices_of(table, alternatives, accuracy_loss or {}, space)

    def search(choice: Choice, done: Sequence[SearchResult]) -> SearchResult:
        question = ask(
            choice.table,
            maxima,
            space=space,
            accuracy=accuracy,
            resolutions=resolutions,
            accuracy_loss=choice.loss,
        )
        chosen = objectives_of(question, objectives)
        report = scaled(on_step, len(done), len(choices))
        started = time.process_time()
        found = nsga2(question.problem, chosen, settings, np.random.default_rng(seed), report)
        cpu_seconds = time.process_time() - started
        return question.result(
            question.candidates(found.rows, found.accuracy),
            algorithm=NSGA2,
            seed=seed,
            settings=asdict(settings),
            evaluations=found.evaluations,
            cpu_seconds=cpu_seconds,
            objectives=tuple(objective.name for objective in chosen),
            notes=(UNPROVED,),
        )

    return search_each(choices, search, lambda found: merged(found, _front(found, settings.keep)))


def _front(results: Sequence[SearchResult], most: int) -> list[Candidate]:
    """At most so many that none of all precisions' fronts beats, the most accurate first."""
    candidates = best_first(results)
    if len(results) == 1:
        return candidates
    sign = [-1.0 if name == ACCURACY else 1.0 for name in results[0].objectives]
    values = np.array(
        [[value_of(each, name) for name in results[0].objectives] for each in candidates]
    )
    values *= sign
    kept = nondominated(values)
    kept = kept[spread_out(values[kept], most)]
    return [candidates[place] for place in sorted(kept)]
