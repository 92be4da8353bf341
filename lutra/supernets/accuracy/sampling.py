"""Measuring random subnets of a supernet, spread from small to large: what a model is fitted on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lutra.errors import UsageError
from lutra.predictors.accuracy.samples import sample_writer
from lutra.predictors.efficiency.costs import macs_cost
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.spaces import Rows, SearchSpace
from lutra.spaces.sampling import Costs, spread_architectures
from lutra.supernets.accuracy.inherited import InheritedAccuracy

Report = Callable[[int, int, float], None]
"""Told how many subnets are measured, of how many, and how many seconds the rest takes."""


class Sampled(NamedTuple):
    """How many subnets were to be measured, and how many of them this run measured."""

    subnets: int
    measured: int


def sample_accuracy(
    accuracy: InheritedAccuracy,
    path: Path,
    *,
    count: int = 300,
    table: Path | None = None,
    resolutions: Sequence[int] | None = None,
    seed: int = 0,
    on_progress: Report = lambda done, expected, eta_seconds: None,
) -> Sampled:
    """Measure ``count`` random subnets into a file, those that it holds left out.

    They are spread over the latency that a ``table`` predicts, else over MACs, at the
    ``resolutions`` given, else at all (of the table's). The first two are the smallest and the
    largest. The same seed gives the same subnets, of which a larger ``count`` takes more. Raises
    the errors of `measure_accuracy` and `TableError`.
    """
    rows = architectures(accuracy.space, count, table=table, resolutions=resolutions, seed=seed)
    return measure_accuracy(accuracy, path, rows, on_progress=on_progress)


def measure_accuracy(
    accuracy: InheritedAccuracy,
    path: Path,
    rows: Rows,
    *,
    on_progress: Report = lambda done, expected, eta_seconds: None,
) -> Sampled:
    """Measure these distinct architectures into a file, those that it holds left out.

    Raises `UsageError` and the errors of `sample_writer`.
    """
    with sample_writer(path, accuracy.source) as writer:
        missing = [row for row in rows if row.tobytes() not in writer.done]
        done = len(rows) - len(missing)
        started = time.monotonic()
        on_progress(done, len(rows), float("nan"))
        for measured, row in enumerate(missing, start=1):
            writer.add(row, accuracy.of(accuracy.space.decode(row)).percent)
            each_seconds = (time.monotonic() - started) / measured
            left = len(missing) - measured
            on_progress(done + measured, len(rows), left * each_seconds)
    return Sampled(len(rows), len(missing))


def architectures(
    space: SearchSpace,
    count: int,
    *,
    table: Path | None = None,
    resolutions: Sequence[int] | None = None,
    seed: int = 0,
) -> Rows:
    """(at most ``count``, genes): the architectures that `sample_accuracy` measures, in order."""
    costs: Costs = macs_cost(space).of
    known = space.resolutions
    if table is not None:
        predictor = EfficiencyPredictor(table, space)
        costs, known = predictor.predict, predictor.resolutions
    chosen = tuple(known if resolutions is None else sorted(set(resolutions)))
    space.check_resolutions(chosen)
    foreign = [r for r in chosen if r not in known]
    if foreign or not chosen:
        raise UsageError(
            f"{table} was not profiled at {', '.join(map(str, foreign))}; it knows"
            f" {', '.join(map(str, known))}"
        )
    return spread_architectures(space, costs, chosen, count, np.random.default_rng(seed))
