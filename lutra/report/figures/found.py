"""What searches found: fronts and candidates, of one or several devices side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lutra.report.figures.drawing import (
    FAINT,
    SERIES,
    Drawing,
    NothingToDraw,
    interval_text,
    intervals,
    ms,
    plain,
    styled,
)
from lutra.search.candidate import Candidate
from lutra.search.fronts.objectives import ACCURACY, label_of, value_of
from lutra.search.result import SearchResult
from lutra.tables import Target

LATENCY = "latency"
_LIMITS = {LATENCY: "latency_ms", "macs": "macs", "params": "params", "memory": "memory_bytes"}


def objectives_shown(result: SearchResult) -> tuple[str, ...]:
    """What a result is drawn over: upwards, to the right, by colour.

    Accuracy is upwards where it is an objective, else the first one; of a fourth nothing is seen.
    """
    names = result.objectives or (ACCURACY, LATENCY)
    return tuple(sorted(names, key=lambda name: name != ACCURACY)[:3])


@styled
def found_networks(results: Sequence[SearchResult]) -> Drawing:
    """The candidates of one or several results, which are drawn over the same first two objectives.

    With the intervals of predicted latencies, what was measured, and the limits. Accuracies are
    percent. Raises `NothingToDraw` for no results.
    """
    if not results:
        raise NothingToDraw(
            "No search result was given: `lutra search TABLE ... -o result.json` makes one, for"
            " `lutra report TABLE result.json`."
        )
    up, right = objectives_shown(results[0])[:2]
    drawing = Drawing(inches_high=3.4 + 0.17 * len(results))
    (axes,) = drawing.axes
    for series, result in enumerate(results):
        _draw(drawing, result, (up, right), series, alone=len(results) == 1)
    axes.set_ylabel(plain(label_of(up)))
    axes.set_xlabel(plain(label_of(right)))
    drawing.legend(columns=1)
    return drawing


def target_text(target: Target) -> str:
    """A target in a few words: what distinguishes one line of a legend from another."""
    return f"{target.device_model}, {target.runtime} {target.precision}"


def _draw(
    drawing: Drawing, result: SearchResult, names: tuple[str, str], series: int, *, alone: bool
) -> None:
    (axes,) = drawing.axes
    found = result.candidates
    up, right = ([value_of(candidate, name) for candidate in found] for name in names)
    coloured: dict[str, Any] = {}
    shown = objectives_shown(result)
    if alone and len(shown) > len(names):
        values = [value_of(candidate, shown[2]) for candidate in found]
        coloured = {"c": values, "cmap": "cividis"}
    elif names[1] == LATENCY:
        low = [candidate.predicted_low_ms for candidate in found]
        high = [candidate.predicted_high_ms for candidate in found]
        intervals(axes, up, low, high, series=series, upright=False)
    label = plain(f"{result.space} on {target_text(result.target)}")
    texts = [_text(candidate) for candidate in found]
    points = drawing.points(axes, right, up, texts, series=series, label=label, **coloured)
    if coloured:
        drawing.figure.colorbar(points, label=plain(label_of(shown[2])))
    if names[1] == LATENCY:
        _draw_measured(drawing, found, names[0], series)
    limit = result.limits.get(_LIMITS.get(names[1], ""))
    if limit is not None:
        axes.axvline(limit, color=SERIES[series % len(SERIES)], linewidth=1.0, linestyle="--")
    best = result.best
    if not result.objectives:
        place = ([value_of(best, names[1])], [value_of(best, names[0])])
        axes.scatter(*place, s=70, facecolors="none", edgecolors=FAINT, linewidths=1.2)


def _draw_measured(drawing: Drawing, found: Sequence[Candidate], up: str, series: int) -> None:
    """What was measured of the candidates, as crosses."""
    (axes,) = drawing.axes
    measured = [(each, each.verified) for each in found if each.verified is not None]
    if not measured:
        return
    y = [value_of(candidate, up) for candidate, _ in measured]
    x = [verified.measured_ms for _, verified in measured]
    low = [verified.ci_low_ms for _, verified in measured]
    high = [verified.ci_high_ms for _, verified in measured]
    intervals(axes, y, low, high, series=series, upright=False)
    texts = [_text(candidate) for candidate, _ in measured]
    style = {"marker": "x", "s": 26, "linewidths": 1.3}
    drawing.points(axes, x, y, texts, series=series, label="the same, measured", **style)


def _text(candidate: Candidate) -> str:
    said = (
        f"{candidate.architecture.key}\naccuracy {candidate.accuracy:.2f} %; predicted"
        f" {ms(candidate.predicted_ms)},"
        f" {interval_text(candidate.predicted_low_ms, candidate.predicted_high_ms)}"
    )
    verified = candidate.verified
    if verified is None:
        return said
    within = {True: "within the budget", False: "over the budget", None: "no budget"}
    return (
        f"{said}\nmeasured {ms(verified.measured_ms)},"
        f" {interval_text(verified.ci_low_ms, verified.ci_high_ms)};"
        f" {within[verified.within_budget]}"
    )
