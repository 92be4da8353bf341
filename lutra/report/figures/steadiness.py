"""Drift and noise over the runs that filled a table, round by round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from lutra.report.content import Content
from lutra.report.figures.drawing import FAINT, SERIES, Drawing, NothingToDraw, styled
from lutra.tables import Visit
from lutra.tables.measurement import Category

_PERCENT = 100.0
Place = tuple[int, int]


@styled
def drift_and_noise(content: Content) -> Drawing:
    """How far visits lie from their own workload's median, in percent, by round.

    Above, the references: what the machine did. Below, ops and networks: how well they repeat; the
    line is the median of a round's visits, the band holds 80 % of them. Latencies are as measured,
    before runs are brought together. Raises `NothingToDraw` for a table without visits.
    """
    if not content.visits:
        raise NothingToDraw("The table holds no visits: nothing was measured over time.")
    rounds = sorted({_place(visit) for visits in content.visits.values() for visit in visits})
    number = {place: index + 1 for index, place in enumerate(rounds)}
    drawing = Drawing(2)
    above, below = drawing.axes
    _panel(drawing, above, content, ("reference",), number, "references", 0)
    _panel(drawing, below, content, ("op",), number, "ops", 1)
    _panel(drawing, below, content, ("network",), number, "networks", 2)
    for axes in drawing.axes:
        axes.axhline(0.0, color=FAINT, linewidth=0.9, zorder=1)
        for first, second in pairwise(rounds):
            if first[0] != second[0]:
                axes.axvline(number[second] - 0.5, color=FAINT, linewidth=0.7, linestyle=":")
    above.set_ylabel("references, %")
    below.set_ylabel("workloads, %")
    below.set_xlabel("round (a dotted line: the next run)")
    below.xaxis.get_major_locator().set_params(integer=True)
    handles = [item for axes in drawing.axes for item in axes.get_legend_handles_labels()[0]]
    drawing.figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return drawing


def _panel(
    drawing: Drawing,
    axes: object,
    content: Content,
    categories: Sequence[Category],
    number: dict[Place, int],
    label: str,
    series: int,
) -> None:
    """The visits of some categories, a point for each round."""
    apart, flags = _by_round(
        visits for (category, _), visits in content.visits.items() if category in categories
    )
    if not apart:
        return
    places = sorted(apart)
    x = [number[place] for place in places]
    low, middle, high = np.array([np.quantile(apart[place], (0.1, 0.5, 0.9)) for place in places]).T
    colour = SERIES[series]
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)  # type: ignore[attr-defined]
    texts = [
        f"run {place[0]}, round {place[1]}: {label}\n{len(apart[place])} visits; median"
        f" {at:+.2f} %, 80 % from {least:+.2f} to {most:+.2f} %; {flags[place]} flagged"
        for place, least, at, most in zip(places, low, middle, high, strict=True)
    ]
    drawing.points(axes, x, middle, texts, series=series, label=label, s=9)


def _by_round(
    workloads: Iterable[Sequence[Visit]],
) -> tuple[dict[Place, list[float]], dict[Place, int]]:
    """How far visits are from their workload's median in percent, and how many are flagged."""
    apart: dict[Place, list[float]] = defaultdict(list)
    flags: dict[Place, int] = defaultdict(int)
    for visits in workloads:
        usual = median(visit.low_ms for visit in visits)
        for visit in visits:
            apart[_place(visit)].append(_PERCENT * (visit.low_ms / usual - 1.0))
            flags[_place(visit)] += bool(visit.flags)
    return apart, flags


def _place(visit: Visit) -> Place:
    return visit.run, visit.round
