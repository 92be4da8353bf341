"""How two tables differ, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lutra.report.figures.drawing import (
    FAINT,
    Drawing,
    NothingToDraw,
    logarithmic,
    ms,
    plain,
    styled,
)

if TYPE_CHECKING:
    import pandas


@styled
def difference(frame: pandas.DataFrame) -> Drawing:
    """By how many percent the second of two tables is slower, by the first one's latency in ms.

    ``frame`` has a row for each workload that both hold, with the columns ``key``, ``kind``,
    ``a_ms``, ``b_ms``, ``percent`` (`diff_tables`) and ``verdict``, which is the series. Raises
    `NothingToDraw` for a frame without rows.
    """
    if not len(frame):
        raise NothingToDraw("The tables have no workload in common.")
    drawing = Drawing()
    (axes,) = drawing.axes
    axes.axhline(0.0, color=FAINT, linewidth=0.9, zorder=1)
    for series, verdict in enumerate(sorted(set(frame["verdict"]))):
        rows = frame[frame["verdict"] == verdict]
        a_ms, b_ms, percent = (rows[name].tolist() for name in ("a_ms", "b_ms", "percent"))
        texts = [
            f"{kind} {key}\n{ms(a)}, then {ms(b)}: {by:+.1f} %; {verdict}"
            for kind, key, a, b, by in zip(
                rows["kind"], rows["key"], a_ms, b_ms, percent, strict=True
            )
        ]
        label = plain(f"{verdict} ({len(rows)})")
        drawing.points(axes, a_ms, percent, texts, series=series, label=label)
    logarithmic(axes.xaxis)
    axes.set_xlabel("latency in the first table, ms")
    axes.set_ylabel("the second one slower by, %")
    drawing.legend()
    return drawing
