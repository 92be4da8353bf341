"""Predicted against measured: whole networks, each with its intervals."""

from __future__ import annotations

from collections.abc import Sequence

from lutra.report.content import ROLES, Content, Network
from lutra.report.figures.drawing import (
    FAINT,
    Drawing,
    NothingToDraw,
    intervals,
    logarithmic,
    styled,
)

_WIDE = 8.0  # of the slowest to the fastest: beyond, both axes are logarithmic


@styled
def predicted_against_measured(content: Content, roles: Sequence[str] = tuple(ROLES)) -> Drawing:
    """Above, predicted and measured latency in ms with 95 % intervals; below, the error in percent.

    Of the networks measured in these roles. Raises `NothingToDraw` where there is none.
    """
    networks = [network for network in content.networks if network.role in roles]
    if not networks:
        raise NothingToDraw(_why_none(content))
    drawing = Drawing(2, inches_high=4.6, height_ratios=(3, 2))
    above, below = drawing.axes
    fastest, slowest = (networks[end].measured.latency_ms for end in (0, -1))
    above.plot([fastest, slowest], [fastest, slowest], color=FAINT, linewidth=0.9, zorder=1)
    below.axhline(0.0, color=FAINT, linewidth=0.9, zorder=1)
    for series, role in enumerate(ROLES):
        _draw(drawing, [each for each in networks if each.role == role], series, ROLES[role])
    if slowest > _WIDE * fastest:
        for axis in (above.xaxis, above.yaxis):
            logarithmic(axis)
    above.set_ylabel("predicted, ms")
    below.set_ylabel("error, %")
    below.set_xlabel("measured, ms")
    drawing.legend()
    return drawing


def _draw(drawing: Drawing, networks: Sequence[Network], series: int, label: str) -> None:
    if not networks:
        return
    above, below = drawing.axes
    measured = [each.measured.latency_ms for each in networks]
    predicted = [each.predicted_ms for each in networks]
    low = [each.low_ms for each in networks]
    high = [each.high_ms for each in networks]
    across_low = [each.measured.ci_low_ms for each in networks]
    across_high = [each.measured.ci_high_ms for each in networks]
    intervals(above, measured, low, high, series=series)
    intervals(above, predicted, across_low, across_high, series=series, upright=False)
    texts = [each.text for each in networks]
    drawing.points(above, measured, predicted, texts, series=series, label=f"{label}")
    errors = [each.error_percent for each in networks]
    drawing.points(below, measured, errors, texts, series=series)


def _why_none(content: Content) -> str:
    if content.target.is_imported:
        return "The table was imported: no network of it was measured."
    if not content.profiled.spaces:
        return "The table holds models of its user's, which nothing predicts."
    if not content.predictors:
        return f"Nothing can be predicted: {'; '.join(content.problems)}."
    return (
        "The table holds no measured network that it can predict: `lutra calibrate` and"
        " `lutra validate` measure some."
    )
