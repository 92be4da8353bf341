"""What the rounds of a run have in common: how slow the machine was in each of them.

All workloads are visited in the same shuffled rounds, so what slows a round slows all of them: the
residuals of a two-way table, workloads by rounds, are medians of (Tukey's median polish). As few
workloads tell a round badly, it counts by how sure it is: of what rounds of that run differ by, the
part that is not explained by how visits scatter (empirical Bayes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.tables.measurement import Round, Steady

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_LEAST_VISITS = 3  # of a workload in a run that tells
_LEAST_WORKLOADS = 8  # that tell a round
_SWEEPS = 3
OF_DEVIATIONS = 1.4826  # from the median of absolute ones to a standard deviation
OF_MEDIAN = np.pi / 2.0  # the variance of a median to that of a mean


def learn_rounds(workloads: Iterable[Sequence[Steady]]) -> dict[Round, float]:
    """How much slower than usual each round of a run was: 1.03 where by 3 %.

    Around 1 in each run, so that what runs are to each other is left to `States`. Rounds that too
    few workloads tell are not in it.
    """
    rounds: list[Round] = []
    tellers: list[tuple[int, int]] = []
    values: list[float] = []
    for number, visits in enumerate(workloads):
        for place, low_ms in visits:
            rounds.append(place)
            tellers.append((number, place[0]))
            values.append(low_ms)
    if not values:
        return {}
    named, of_round = _numbered(rounds)
    _, of_teller = _numbered(tellers)
    enough = np.bincount(of_teller)[of_teller] >= _LEAST_VISITS
    enough &= np.bincount(of_round[enough], minlength=len(named))[of_round] >= _LEAST_WORKLOADS
    if not enough.any():
        return {}
    of_round, of_teller = of_round[enough], of_teller[enough]
    effects, left = _polished(np.log(values)[enough], of_teller, of_round, len(named))
    counts = np.bincount(of_round, minlength=len(named))
    of_run = np.array([run for run, _, _ in named])
    found: dict[Round, float] = {}
    for run in np.unique(of_run):
        mine = np.flatnonzero((of_run == run) & (counts > 0))
        if len(mine):
            scatter = OF_DEVIATIONS * np.median(np.abs(left[np.isin(of_round, mine)]))
            own = np.exp(_believed(effects[mine], OF_MEDIAN * scatter**2 / counts[mine]))
            found |= {named[index]: float(slower) for index, slower in zip(mine, own, strict=True)}
    return found


def _numbered(names: Sequence[Any]) -> tuple[list[Any], Ints]:
    """The distinct names in order, and (N,) which of them each is."""
    distinct = sorted(set(names))
    places = {name: place for place, name in enumerate(distinct)}
    return distinct, np.array([places[name] for name in names], dtype=np.intp)


def _polished(values: Floats, rows: Ints, columns: Ints, count: int) -> tuple[Floats, Floats]:
    """(count,) the columns' effects and (N,) what rows and columns leave, by medians."""
    effects, own = np.zeros(count), values
    for _ in range(_SWEEPS):
        of_rows = _medians(values - effects[columns], rows, int(rows.max()) + 1)
        own = values - of_rows[rows]
        effects = _medians(own, columns, count)
    return effects, own - effects[columns]


def _medians(values: Floats, groups: Ints, count: int) -> Floats:
    """(count,): the median of each group's values; 0 for groups without any."""
    order = np.lexsort((values, groups))
    sizes = np.bincount(groups, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    ordered = np.append(values[order], 0.0)
    low = ordered[np.where(sizes > 0, starts + (sizes - 1) // 2, -1)]
    high = ordered[np.where(sizes > 0, starts + sizes // 2, -1)]
    middle: Floats = (low + high) / 2.0
    return middle


def _believed(effects: Floats, noise: Floats) -> Floats:
    """The effects about their median, each by how much of it is no noise (of these variances)."""
    apart: Floats = effects - np.median(effects)
    real = max(float(np.mean(apart**2 - noise)), 0.0)
    return apart * (real / (real + noise)) if real > 0.0 else 0.0 * apart
