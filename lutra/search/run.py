"""The search itself: a table, limits and an accuracy predictor in, a result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from lutra.errors import AccuracyError, UsageError
from lutra.predictors.accuracy import AccuracyPredictor
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.algorithms import get_algorithm
from lutra.search.algorithms.base import Candidates
from lutra.search.problem import Limit, Problem, latency_limits
from lutra.search.result import Candidate, SearchResult

KEPT = 10


def search(
    predictor: EfficiencyPredictor,
    accuracy: AccuracyPredictor,
    *,
    max_latency_ms: float | None = None,
    max_macs: float | None = None,
    algorithm: str = "evolution",
    seed: int = 0,
    resolutions: tuple[int, ...] | None = None,
    settings: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """The most accurate subnets within the limits, best first.

    Searches the resolutions that both the table and the accuracy predictor know, or those given.
    Raises `InfeasibleError` at once when the limits cannot be met, `UsageError` without a limit
    or for unknown settings.
    """
    limits = _limits(predictor, max_latency_ms, max_macs)
    searched, notes = _resolutions(predictor, accuracy, resolutions)
    problem = Problem(predictor.space, accuracy, limits, searched)
    method = get_algorithm(algorithm)
    try:
        chosen = method.settings(**{"keep": KEPT, **(settings or {})})
    except TypeError as error:
        raise UsageError(f"algorithm '{algorithm}' does not take that setting: {error}") from error
    started = time.process_time()
    found = method.run(problem, chosen, np.random.default_rng(seed), progress)
    return SearchResult(
        space=predictor.space.name,
        target=predictor.target,
        table=str(predictor.path),
        limits=_maxima(latency_ms=max_latency_ms, macs=max_macs),
        algorithm=algorithm,
        seed=seed,
        settings={**asdict(chosen), "resolutions": list(searched)},
        evaluations=found.evaluations,
        cpu_seconds=round(time.process_time() - started, 3),
        accuracy_source={
            "name": accuracy.name,
            "provenance": accuracy.provenance,
            "quality": accuracy.quality,
        },
        candidates=_candidates(predictor, found),
        reference_ms=predictor.reference_ms,
        drift=predictor.drift,
        notes=notes,
    )


def half_way_budget_ms(predictor: EfficiencyPredictor, accuracy: AccuracyPredictor) -> float:
    """Half-way between the fastest and the slowest subnet that can be searched."""
    resolutions, _ = _resolutions(predictor, accuracy, None)
    fastest = predictor.latency.cheapest(resolutions)[0]
    slowest = predictor.latency.dearest(resolutions)[0]
    return (fastest + slowest) / 2.0


def _limits(
    predictor: EfficiencyPredictor, max_latency_ms: float | None, max_macs: float | None
) -> tuple[Limit, ...]:
    limits: list[Limit] = []
    if max_latency_ms is not None:
        limits += latency_limits(predictor.latency, max_latency_ms)
    if max_macs is not None:
        limits.append(Limit(predictor.macs, max_macs))
    if not limits:
        raise UsageError("a search needs a limit: --max-latency 20ms or --max-flops 300M")
    return tuple(limits)


def _maxima(**maxima: float | None) -> dict[str, float]:
    return {name: maximum for name, maximum in maxima.items() if maximum is not None}


def _resolutions(
    predictor: EfficiencyPredictor,
    accuracy: AccuracyPredictor,
    wanted: tuple[int, ...] | None,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The resolutions to search, and a note where the accuracy predictor narrows them."""
    if wanted is not None:
        predictor.space.check_resolutions(wanted)
        return wanted, ()
    common = tuple(r for r in predictor.resolutions if r in accuracy.resolutions)
    if not common:
        raise AccuracyError(
            f"{accuracy.name} knows the accuracy at resolutions {_text(accuracy.resolutions)}, the"
            f" table holds {_text(predictor.resolutions)}; profile one of the former"
            " or pass another --accuracy file"
        )
    if common == predictor.resolutions:
        return common, ()
    return common, (
        f"searched at {_text(common)} only: {accuracy.name} knows no accuracy at the table's"
        " other resolutions",
    )


def _text(resolutions: tuple[int, ...]) -> str:
    return ", ".join(map(str, resolutions))


def _candidates(predictor: EfficiencyPredictor, found: Candidates) -> tuple[Candidate, ...]:
    result = []
    for row, accuracy in zip(found.rows, found.accuracy, strict=True):
        architecture = predictor.space.decode(row)
        prediction = predictor.predict_one(architecture)
        result.append(
            Candidate(
                architecture,
                prediction.latency_ms,
                prediction.low_ms,
                prediction.high_ms,
                float(accuracy),
                prediction.macs,
                prediction.params,
            )
        )
    return tuple(result)
