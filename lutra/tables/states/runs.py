"""What the latencies of one run are to those of another.

Minutes or days apart the same file takes another time: the clock differs, or neighbours use the
cache that weights come from, which costs every network about the same. Within a run all workloads
are visited in the same shuffled rounds and share what happens; between runs, workloads that both
measured (anchors) tell: now = scale * then + constant, for ops the scale alone. A table speaks of
the state of its first run, and what later runs measured is brought to that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, median

import numpy as np
import numpy.typing as npt

from lutra.tables.measurement import VERIFY, Category, Round, Steady, Visit, is_architecture
from lutra.tables.states.answers import Answer, Unlike, how_unlike
from lutra.tables.states.rounds import OF_DEVIATIONS, OF_MEDIAN, learn_rounds
from lutra.tables.table import LatencyTable

_FULL_VISITS = 3  # an anchor of fewer counts for less
_MOST_SPREAD = 0.05  # of anchors about the line: beyond, one run cannot be brought to another
_MOST_SHIFT = 0.5
_ByRun = Mapping[int, Sequence[float]]  # what a workload took (ms), by the run that measured it
# What is assumed before anchors tell: standard deviations, relative to the anchors' latencies.
_NOISE, _SCALE_PRIOR, _CONSTANT_PRIOR = 0.015, 0.3, 0.1
_LIKENESS = 3.0  # how fast anchors of another size count for less beside a constant
_MOST_APART = 2.0  # between anchors whose sizes differ by more, nothing is seen
_LEAST_SCATTERED = 6  # visits that tell how they scatter
_OF_ANCHOR = 0.2  # what an anchor counts of how networks differ: the state was fitted to it


@dataclass(frozen=True)
class State:
    """What a run's latencies are to the table's: ``now = scale * then + constant_ms``.

    It was seen on ``anchors`` workloads, and ``spread`` is how far they lie from it (0.01: 1 %).
    Where it has a constant, it was seen from ``lowest_ms`` to ``highest_ms`` now; a scale alone
    holds for all.
    """

    scale: float = 1.0
    constant_ms: float = 0.0
    anchors: int = 0
    lowest_ms: float = 0.0
    highest_ms: float = float("inf")
    spread: float = 0.0

    def factor(self, now_ms: float) -> float:
        """What a latency of this run is multiplied by; less and less beyond the anchors."""
        shift, alike = self._told(now_ms)
        return 1.0 / (1.0 + alike * shift)

    def _told(self, now_ms: float) -> tuple[float, float]:
        """How much slower, as at the nearest anchor, and how alike in size that is (1: as large).

        A constant matters less to what is larger, and what is smaller may not feel it at all.
        """
        seen = min(max(now_ms, self.lowest_ms), self.highest_ms)
        shift = seen * self.scale / (seen - self.constant_ms) - 1.0
        return shift, min(now_ms / seen, seen / now_ms)

    @property
    def known(self) -> bool:
        """Whether anchors tell, and agree."""
        return self.anchors > 0 and self.spread <= _MOST_SPREAD

    def reaches(self, now_ms: float) -> bool:
        """Whether a latency of this run can be brought to the table's state."""
        shift, alike = self._told(now_ms)
        return (
            self.known and abs(shift) <= _MOST_SHIFT and abs(shift) * (1.0 - alike) <= _MOST_SPREAD
        )

    def brought(self, visit: Visit, slower: float = 1.0) -> Visit:
        """The visit as the table's state would have had it; flagged ``drift`` if that is unknown.

        ``slower`` is what its round was to the others of the run. Its ``drift`` is then how much
        slower the machine was.
        """
        usual_ms = visit.low_ms / slower
        factor = self.factor(usual_ms) / slower
        reached = self.reaches(usual_ms) and abs(slower - 1.0) <= _MOST_SHIFT
        return replace(
            visit,
            low_ms=visit.low_ms * factor,
            median_ms=visit.median_ms * factor,
            minimum_ms=visit.minimum_ms * factor,
            drift=max(visit.drift, 1.0 / factor - 1.0),
            flags=visit.flags if reached else _with_drift(visit.flags),
        )


def _with_drift(flags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*flags, "drift")))


SAME = State(anchors=1)


def fit_state(
    then_ms: npt.ArrayLike,
    now_ms: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    constant: bool,
) -> State:
    """The state that brings (N,) latencies now to what they were then; `State()` without any.

    ``weights`` (N,) are how much each counts, 1 by default. Least squares of the ratios, with the
    weight of what is assumed: where few anchors tell, or all of one size, no constant is made of
    them.
    """
    then, now = np.asarray(then_ms, dtype=float), np.asarray(now_ms, dtype=float)
    if not len(then):
        return State()
    constants = np.median(then) / then if constant else np.zeros(len(then))
    columns = np.stack([np.ones(len(then)), constants], axis=1)
    target = now / then - 1.0
    given = np.ones(len(then)) if weights is None else np.asarray(weights)
    if constant:
        given = given * _likeness(then)
    weight = given
    prior = np.diag((_NOISE / np.array([_SCALE_PRIOR, _CONSTANT_PRIOR])) ** 2)
    solved = np.zeros(2)
    for _ in range(3):  # an anchor that was disturbed itself counts for less
        solved = np.linalg.solve(
            columns.T @ (weight[:, None] * columns) + prior, columns.T @ (weight * target)
        )
        apart = np.abs(target - columns @ solved)
        weight = given * np.minimum(1.0, 2.0 * _NOISE / np.maximum(apart, 1e-12))
    lowest_ms, highest_ms = _seen_between(now) if constant else (0.0, float("inf"))
    return State(
        scale=float(1.0 + solved[0]),
        constant_ms=float(solved[1] * np.median(then)),
        anchors=len(then),
        lowest_ms=lowest_ms,
        highest_ms=highest_ms,
        spread=float(np.median(apart)) if len(then) > 1 else 0.0,
    )


def _likeness(latencies_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) -> (N,): how much an anchor of such a size says of the others; 1 in the middle.

    A small one far from all others would turn the line by itself, and what it takes from the cache
    is no measure of what they do.
    """
    usual = float(np.median(latencies_ms))
    return np.asarray(np.minimum(latencies_ms / usual, usual / latencies_ms) ** _LIKENESS)


def _seen_between(latencies_ms: npt.NDArray[np.float64]) -> tuple[float, float]:
    """(N,) -> the sizes about the middle that anchors lie close enough to each other in."""
    ordered = np.sort(latencies_ms)
    gaps = np.flatnonzero(ordered[1:] > _MOST_APART * ordered[:-1])
    middle = (len(ordered) - 1) // 2
    lowest = max((gap + 1 for gap in gaps if gap < middle), default=0)
    highest = min((gap for gap in gaps if gap >= middle), default=len(ordered) - 1)
    return float(ordered[lowest]), float(ordered[highest])


class States:
    """The states of a table's runs, for its ops and for its networks."""

    def __init__(self, table: LatencyTable) -> None:
        """Learn them from the table's visits: a function of those and of nothing else."""
        self._rounds: dict[Category, dict[Round, float]] = {}
        self._states: dict[Category, dict[int, State]] = {}
        references = table.steady_ms("reference")
        whole = [seen for key, seen in references.items() if is_architecture(key)]
        small = [seen for key, seen in references.items() if not is_architecture(key)]
        along: dict[Category, list[list[Steady]]] = {"op": small, "network": whole or small}
        self._networks: tuple[Mapping[str, _ByRun], Collection[str]] = {}, ()
        for category, beside in along.items():
            steady = table.steady_ms(category)
            rounds = self._rounds[category] = learn_rounds(steady.values())
            seen = {key: by_run(rounds, visits) for key, visits in steady.items()}
            # What a search measures again it chose for being fast: by luck, not by the machine.
            anchors = table.steady_ms(category, but=VERIFY) if category == "network" else steady
            workloads = [*(seen[key] for key in anchors), *(by_run(rounds, own) for own in beside)]
            constant = category == "network" and bool(whole)
            self._states[category] = _learnt(workloads, constant=constant)
            if category == "network":
                self._networks = seen, anchors

    @cached_property
    def unlike(self) -> Unlike:
        """How networks differ from the states of runs, by those that several of them measured."""
        (seen, anchors), states = self._networks, self._states.get("network", {})
        return how_unlike(
            answer
            for key, own in seen.items()
            for answer in _answers(own, states, _OF_ANCHOR if key in anchors else 1.0)
        )

    def of(self, category: Category, run: int) -> State:
        """The state of a run for workloads of a category."""
        return self._states.get(category, {}).get(run, SAME)

    def brought(self, category: Category, visits: Sequence[Visit]) -> Sequence[Visit]:
        """Visits of one workload in the table's state."""
        states, rounds = self._states.get(category, {}), self._rounds.get(category, {})
        if not states and not rounds:
            return visits
        return [
            states.get(visit.run, SAME).brought(visit, rounds.get(visit.place, 1.0))
            for visit in visits
        ]


def visits_in_one_state(
    table: LatencyTable, category: Category, states: States | None = None
) -> dict[str, Sequence[Visit]]:
    """The visits of each workload in the table's state, by key; ``states`` are the table's."""
    states = states or States(table)
    return {
        key: states.brought(category, visits)
        for (_, key), visits in table.all_visits(category).items()
    }


def _learnt(workloads: Sequence[_ByRun], *, constant: bool) -> dict[int, State]:
    """The state of each run but the first: each by what those before it measured."""
    runs = sorted({run for seen in workloads for run in seen})
    states: dict[int, State] = {}
    for run in runs[1:]:
        anchors = [
            (median(earlier), median(seen[run]), min(len(earlier), len(seen[run]), _FULL_VISITS))
            for seen in workloads
            if run in seen and (earlier := _earlier_ms(seen, run, states))
        ]
        then_ms, now_ms, visits = zip(*anchors, strict=True) if anchors else ((), (), ())
        weights = np.array(visits) / _FULL_VISITS
        states[run] = fit_state(then_ms, now_ms, weights, constant=constant)
    return states


def _answers(seen: _ByRun, states: Mapping[int, State], weight: float) -> list[Answer]:
    """How far off its runs' states a network was in each, beside the runs before."""
    earlier: list[float] = []  # visits in the table's state
    slower: list[float] = []  # than in that, by how much in each run
    found = []
    for run, own in sorted(seen.items()):
        state, now_ms = states.get(run, SAME), median(own)
        if len(own) < _LEAST_SCATTERED or not state.reaches(now_ms):
            continue
        factor = state.factor(now_ms)
        if earlier:
            shift = 1.0 / factor - fmean(slower)
            noise = OF_MEDIAN * _scatter(own) * (1.0 / len(earlier) + 1.0 / len(own))
            apart = math.log(now_ms * factor / median(earlier))
            found.append(Answer(shift, apart, noise, len(slower), weight))
        earlier += [value * factor for value in own]
        slower.append(1.0 / factor)
    return found


def _scatter(visits: Sequence[float]) -> float:
    """The relative variance of visits."""
    usual = median(visits)
    return (OF_DEVIATIONS * median(abs(each / usual - 1.0) for each in visits)) ** 2


def by_run(rounds: Mapping[Round, float], visits: Sequence[Steady]) -> _ByRun:
    """What a workload took (ms) by run, less what slowed its rounds."""
    found: dict[int, list[float]] = defaultdict(list)
    for place, low_ms in visits:
        found[place[0]].append(low_ms / rounds.get(place, 1.0))
    return found


def _earlier_ms(seen: _ByRun, run: int, states: Mapping[int, State]) -> list[float]:
    """What a workload took before a run, in the table's state, as far as that is known."""
    return [
        value * states.get(number, SAME).factor(value)
        for number, values in seen.items()
        if number < run
        for value in values
        if states.get(number, SAME).reaches(value)
    ]
