"""A picture of a front, by matplotlib."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

from lutra.errors import UsageError
from lutra.files.kinds import PICTURE_BY
from lutra.search.fronts.objectives import ACCURACY, label_of, value_of
from lutra.search.result import SearchResult
from lutra.text import printable_line

_INCHES = (7.0, 4.5)
_DPI = 150


def require_matplotlib() -> None:
    """Raise `UsageError`, with what to type, where it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("pictures need matplotlib: pip install 'lutra[plots]'")


def picture(result: SearchResult, format_name: str) -> bytes:
    """The front as an ``svg`` or ``png`` file.

    Accuracy is upwards where it is an objective, else the first one; the next is to the right,
    a third one is the colour. Of a fourth nothing is seen. Raises like `require_matplotlib`.
    """
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES)
    FigureCanvasAgg(figure)
    _draw(figure, result)
    figure.tight_layout()
    data = io.BytesIO()
    # Nothing in it changes from run to run by itself.
    if format_name == "svg":
        metadata = {"Date": None, "Creator": PICTURE_BY}
    else:
        metadata = {"Software": PICTURE_BY}
    with mpl.rc_context({"svg.hashsalt": "lutra"}):
        figure.savefig(data, format=format_name, dpi=_DPI, metadata=metadata)
    return data.getvalue()


def _draw(figure: Any, result: SearchResult) -> None:
    names = sorted(result.objectives, key=lambda name: name != ACCURACY)
    up, right, *others = (
        [value_of(candidate, name) for candidate in result.candidates] for name in names
    )
    axes = figure.add_subplot()
    points = axes.scatter(right, up, s=14, c=others[0] if others else None)
    if others:
        figure.colorbar(points, label=_plain(label_of(names[2])))
    axes.set_ylabel(_plain(label_of(names[0])))
    axes.set_xlabel(_plain(label_of(names[1])))
    title = f"{result.space}, {result.target.summary()}"
    axes.set_title(_plain(title), fontsize=7, wrap=True)
    axes.grid(alpha=0.3)


def _plain(text: str) -> str:
    """A text without what XML lacks, and in which a dollar begins no formula."""
    return printable_line(text).replace("$", r"\$")
