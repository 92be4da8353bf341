"""The search itself: a table, limits and an accuracy predictor in, a result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lutra.errors import AccuracyError, UsageError
from lutra.predictors.accuracy import AccuracyPredictor, load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.gate import reference_baseline
from lutra.profiler.plan import ANCHORS, evenly
from lutra.search.algorithms import get_algorithm
from lutra.search.algorithms.base import RankedRows
from lutra.search.algorithms.presets import AUTO, resolve
from lutra.search.constraints import Limit, latency_limits
from lutra.search.problem import Problem
from lutra.search.result import Candidate, SearchResult
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable, opened_table
from lutra.tables.measurement import CALIBRATE

KEPT = 10


def find_networks(
    table: LatencyTable | str | Path,
    *,
    max_latency_ms: float | None = None,
    max_macs: float | None = None,
    space: SearchSpace | str | None = None,
    accuracy: AccuracyPredictor | str | Path | None = None,
    algorithm: str = AUTO,
    preset: str | None = None,
    seed: int = 0,
    resolutions: Sequence[int] | None = None,
    hyperparameters: Mapping[str, float] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """The most accurate subnets within the limits, best first; nothing is measured.

    ``max_latency_ms`` (ms) and ``max_macs`` (multiply-accumulates) are the limits, at least one.
    ``accuracy`` is a predictor or what `load_accuracy` takes; by default the one of the space.
    Searches the ``resolutions`` (pixels) that both the table and the accuracy predictor know, or
    those given. ``algorithm`` is by default ``exact``, which proves what it finds, where the
    accuracy is additive, else ``surrogate``; ``preset`` names published settings (`PRESETS`) in its
    place. ``hyperparameters`` are the algorithm's; ``on_step`` is told how many of its steps are
    done and how many there are. Ctrl-C ends a search with the best so far.

    Raises `InfeasibleError` at once when the limits cannot be met, `UsageError` without a limit or
    for unknown names, `AccuracyError` and `TableError`.

    >>> result = find_networks("cpu.lut", max_latency_ms=5)
    >>> result.best.predicted_ms <= 5, result.best.architecture.r
    (True, 224)
    """
    with opened_table(table) as opened:
        predictor = EfficiencyPredictor(opened, space)
        reference_ms = reference_baseline(opened)
        anchors_ms = _anchors(opened, predictor.space)
    if not isinstance(accuracy, AccuracyPredictor):
        accuracy = load_accuracy(accuracy, predictor.space)
    limits = _limits(predictor, max_latency_ms, max_macs)
    searched, notes = _resolutions(predictor, accuracy, resolutions)
    problem = Problem(predictor.space, accuracy, limits, searched)
    algorithm, settings = resolve(algorithm, preset, accuracy)
    method = get_algorithm(algorithm)
    try:
        chosen = method.hyperparameters(**{"keep": KEPT, **settings, **(hyperparameters or {})})
    except TypeError as error:
        raise UsageError(f"algorithm '{algorithm}' does not take that setting: {error}") from error
    started = time.process_time()
    found = method.run(problem, chosen, np.random.default_rng(seed), on_step)
    stale = predictor.staleness(searched)
    return SearchResult(
        space=predictor.space.name,
        target=predictor.target,
        table=str(predictor.path),
        limits=_maxima(latency_ms=max_latency_ms, macs=max_macs),
        algorithm=algorithm,
        seed=seed,
        hyperparameters={**asdict(chosen), "resolutions": list(searched)},
        evaluations=found.evaluations,
        cpu_seconds=round(time.process_time() - started, 3),
        accuracy_source={
            "name": accuracy.name,
            "provenance": accuracy.provenance,
            "quality": accuracy.quality,
        },
        candidates=_candidates(predictor, found),
        reference_ms=reference_ms,
        anchors_ms=anchors_ms,
        notes=(
            *notes,
            *found.notes,
            *_loose(predictor, searched, max_latency_ms, max_macs),
            *((stale,) if stale else ()),
        ),
    )


def _anchors(table: LatencyTable, space: SearchSpace) -> dict[str, float]:
    """A few of the networks that calibrated the table, by key, in ms, from fast to slow."""
    measured = [
        (row.measurement.latency_ms, row.key)
        for row in table.rows("network", CALIBRATE)
        if row.measurement is not None and not row.measurement.flags
    ]
    own = [item for item in sorted(measured) if space.from_key(item[1]) is not None]
    return {key: latency_ms for latency_ms, key in evenly(own, ANCHORS["network"])}


def half_way_budget_ms(predictor: EfficiencyPredictor, accuracy: AccuracyPredictor) -> float:
    """Half-way between the fastest and the slowest subnet that can be searched, in ms."""
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


def _loose(
    predictor: EfficiencyPredictor,
    resolutions: Sequence[int],
    max_latency_ms: float | None,
    max_macs: float | None,
) -> list[str]:
    """A note for each limit that no architecture exceeds."""
    latency, macs = predictor.latency, predictor.macs
    asked = ((latency, latency.forms[0], max_latency_ms), (macs, macs, max_macs))
    return [
        f"the limit of {unit.text(limit)} does not bind: no subnet exceeds {unit.text(most)}"
        for cost, unit, limit in asked
        if limit is not None and (most := cost.dearest(resolutions)[0]) <= limit
    ]


def _maxima(**maxima: float | None) -> dict[str, float]:
    return {name: maximum for name, maximum in maxima.items() if maximum is not None}


def _resolutions(
    predictor: EfficiencyPredictor,
    accuracy: AccuracyPredictor,
    wanted: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The resolutions to search, and a note where the accuracy predictor narrows them."""
    if wanted is not None:
        predictor.space.check_resolutions(wanted)
        return tuple(wanted), ()
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


def _candidates(predictor: EfficiencyPredictor, found: RankedRows) -> tuple[Candidate, ...]:
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
