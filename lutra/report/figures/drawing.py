"""What all figures share: matplotlib with one style, and marks that say what they stand for."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from lutra.errors import UsageError
from lutra.text import printable_line

INK, FAINT, GRID = "#1c1d1f", "#6e7175", "#d9dbde"
# Okabe and Ito's palette, that colour-blind readers tell apart, darkened to be seen on white.
SERIES = (
    *("#0072b2", "#c24e00", "#007f5f", "#a64d8b"),
    *("#946200", "#2b7d9c", "#5b55b5", "#8a3b3b"),
)
COLOURS = (INK, FAINT, GRID, *SERIES)
"""All that figures are drawn in: a page gives each another value in the dark."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "<", "X")
_INCHES_WIDE = 4.2  # a phone's width at the size of its text
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "legend.handletextpad": 0.3,
    "legend.columnspacing": 1.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "lutra",
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": INK,
    "ytick.color": INK,
}

P = ParamSpec("P")
T = TypeVar("T")


class NothingToDraw(UsageError):
    """A figure has nothing to show; the message is the sentence that stands in its place."""


def require_matplotlib() -> None:
    """Raise `UsageError`, with what to type, where it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("pictures need matplotlib: pip install 'lutra[plots]'")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorator: draw in the house style, whatever the user's own settings are.

    Raises like `require_matplotlib`.
    """

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **named: P.kwargs) -> T:
        require_matplotlib()
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*arguments, **named)

    return drawn


class Drawing:
    """A matplotlib figure, and what its marks (points, bars) stand for.

    ``marks`` maps the id of a group in the figure's SVG to a text for each mark in it, in order:
    a page shows it where one points.
    """

    def __init__(self, rows: int = 1, *, inches_high: float = 3.4, **axes: Any) -> None:
        """A figure of ``rows`` axes, one below the other, which all have the same x."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(_INCHES_WIDE, inches_high))
        FigureCanvasAgg(self.figure)
        self.axes = list(self.figure.subplots(rows, sharex=True, squeeze=False, **axes)[:, 0])
        self.marks: dict[str, Sequence[str]] = {}

    def points(
        self,
        axes: Any,
        x: Sequence[float],
        y: Sequence[float],
        texts: Sequence[str],
        *,
        series: int = 0,
        **scatter: Any,
    ) -> Any:
        """A mark for each point, in the colour and shape of a series; what matplotlib drew."""
        colour = {} if "c" in scatter else {"color": SERIES[series % len(SERIES)]}
        marker = _MARKERS[series % len(_MARKERS)]
        settings = {"s": 12, "linewidths": 0.5, "marker": marker, **colour, **scatter}
        drawn = axes.scatter(x, y, **settings)
        drawn.set_gid(self._named(texts))
        return drawn

    def bars(
        self, axes: Any, widths: Sequence[float], texts: Sequence[str], series: Sequence[int]
    ) -> None:
        """Horizontal bars from top to bottom, each in the colour of its series."""
        colours = [SERIES[index % len(SERIES)] for index in series]
        drawn = axes.barh(range(len(widths)), widths, color=colours, height=0.72)
        for bar, text in zip(drawn, texts, strict=True):
            bar.set_gid(self._named([text]))
        axes.set_ylim(len(widths) - 0.4, -0.6)

    def _named(self, texts: Sequence[str]) -> str:
        name = f"marks-{len(self.marks)}"
        self.marks[name] = texts
        return name

    def legend(self, columns: int = 3) -> None:
        """What the series are, above the axes."""
        handles, labels = self.axes[0].get_legend_handles_labels()
        self.figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def intervals(
    axes: Any,
    at: Sequence[float],
    low: Sequence[float | None],
    high: Sequence[float | None],
    *,
    series: int = 0,
    upright: bool = True,
) -> None:
    """A line from low to high at each place, where both are known: one path for all."""
    along: list[float] = []
    across: list[float] = []
    for place, least, most in zip(at, low, high, strict=True):
        if least is not None and most is not None:
            across += [place, place, float("nan")]
            along += [least, most, float("nan")]
    x, y = (across, along) if upright else (along, across)
    colour = SERIES[series % len(SERIES)]
    axes.plot(x, y, color=colour, linewidth=0.9, alpha=0.55, solid_capstyle="butt")


def logarithmic(axis: Any) -> None:
    """A log axis whose numbers are written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    wide = high / low > 1e3
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plain(text: str) -> str:
    """A text without what XML lacks, and in which a dollar begins no formula."""
    return printable_line(text).replace("$", r"\$")


def ms(value: float) -> str:
    """A latency in words."""
    return f"{value:.4g} ms"


def interval_text(low_ms: float | None, high_ms: float | None) -> str:
    """The interval of a latency in words."""
    if low_ms is None or high_ms is None:
        return "no interval"
    return f"95 % interval {low_ms:.4g} to {high_ms:.4g}"
