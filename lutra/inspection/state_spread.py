"""How far the machine's own states set two tables apart: what no change of a runtime is needed for.

A table speaks of the state of its first run (`lutra.tables.states`), so that two tables of the same
target differ as two runs of it do. Their later runs tell by how much, over the time that they span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import numpy as np

from lutra.errors import NotATableError
from lutra.tables import LatencyTable
from lutra.tables.measurement import Category
from lutra.tables.states import States

_COVERED = 0.975
_HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class StateSpread:
    """By how much the state alone sets two tables of one target apart.

    ``half_width`` is that of 95 % of pairs of runs, of the logarithm of latency, by category. It is
    empty where nothing tells: fewer than two runs in both tables, or runs over a shorter time than
    the tables are apart. ``runs`` tell it; they span ``span_hours``, and the tables lie
    ``apart_hours`` apart.
    """

    half_width: Mapping[Category, float]
    runs: int
    span_hours: float
    apart_hours: float

    @property
    def reaches(self) -> bool:
        """Whether runs span the time that the tables are apart."""
        return self.runs > 0 and self.span_hours >= self.apart_hours


def state_spread(a: LatencyTable, b: LatencyTable) -> StateSpread:
    """What the runs of two tables tell of the states of their machine."""
    starts = [_starts(table) for table in (a, b)]
    if not all(starts):
        return StateSpread({}, 0, 0.0, 0.0)
    apart = abs(starts[0][0] - starts[1][0]) / _HOUR_SECONDS
    span = max(max(times) - min(times) for times in starts) / _HOUR_SECONDS
    repeated = [table for table, times in zip((a, b), starts, strict=True) if len(times) > 1]
    runs = sum(len(times) for times in starts if len(times) > 1)
    found = StateSpread({}, runs, span, apart)
    if not found.reaches:
        return found
    learnt = [(table, States(table)) for table in repeated]
    widths: dict[Category, float] = {}
    categories: tuple[Category, ...] = ("op", "network")
    for category in categories:
        effects = [_effects(table, states, category) for table, states in learnt]
        width = _half_width(effects)
        if width is not None:
            widths[category] = width
    return StateSpread(widths, runs, span, apart)


def _starts(table: LatencyTable) -> list[float]:
    try:
        return [datetime.fromisoformat(at).timestamp() for at in table.run_starts().values()]
    except ValueError as error:
        raise NotATableError(f"{table.path} is damaged: a visit's time is none") from error


def _effects(table: LatencyTable, states: States, category: Category) -> list[float]:
    """Logarithms of how much slower each run was than the first, as far as anchors tell."""
    measured = [row.measurement.latency_ms for row in table.rows(category) if row.measurement]
    if not measured:
        return []
    known = [states.of(category, run) for run in list(table.run_starts())[1:]]
    usual_ms = median(measured)
    return [0.0, *(-float(np.log(s.factor(usual_ms))) for s in known if s.known)]


def _half_width(effects: Sequence[Sequence[float]]) -> float | None:
    """Of the difference of two runs, by the runs of each table about their mean."""
    from scipy.special import stdtrit

    free = sum(len(own) - 1 for own in effects if own)
    if free < 1:
        return None
    squares = sum(float(np.sum((np.array(own) - np.mean(own)) ** 2)) for own in effects if own)
    return float(stdtrit(free, _COVERED) * np.sqrt(2.0 * squares / free))
