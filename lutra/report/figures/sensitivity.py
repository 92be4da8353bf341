"""Sensitivity curves of a network: accuracy over the channels that one layer alone keeps."""

from __future__ import annotations

from collections.abc import Sequence

from lutra.predictors.accuracy.samples import Samples
from lutra.predictors.accuracy.sensitivities import Curve, curves_of
from lutra.report.figures.drawing import FAINT, SERIES, Drawing, plain, styled

_NAMED = 4  # of each panel, those that cost most at half width
_HALF = 0.5
_PERCENT = 100.0
_PANELS = {"out": "between blocks", "mid": "within blocks"}


@styled
def sensitivity_curves(samples: Samples, source: str) -> Drawing:
    """Top-1 against the share of channels kept, of layers between blocks above, of those within
    blocks below; the most sensitive ones are named.

    Points are measured, lines are what predictions use. ``source`` names the samples' file in
    messages. Raises `AccuracyError` where points are missing.
    """
    curves = curves_of(samples, source)
    panels = {
        text: [curve for curve in curves if curve.name.startswith(name)]
        for name, text in _PANELS.items()
    }
    panels = {text: of_it for text, of_it in panels.items() if of_it}
    drawing = Drawing(len(panels), inches_high=2.4 * len(panels))
    for axes, (text, of_it) in zip(drawing.axes, panels.items(), strict=True):
        _panel(drawing, axes, of_it)
        axes.set_ylabel(f"top-1, %, {text}")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="lower right")  # those that cost most first
    drawing.axes[-1].set_xlabel("channels kept, %, of that layer alone")
    drawing.axes[0].set_title(
        plain(f"{samples.source.images} validation images of {samples.source.data}"), fontsize=9
    )
    return drawing


def _panel(drawing: Drawing, axes: object, curves: Sequence[Curve]) -> None:
    ranked = sorted(curves, key=_at_half)
    for place, curve in reversed([*enumerate(ranked)]):
        named = place < _NAMED
        shares = [_PERCENT * channels / curve.channels[-1] for channels in curve.channels]
        colour = SERIES[place] if named else FAINT
        axes.plot(  # type: ignore[attr-defined]
            shares, curve.smoothed, color=colour, linewidth=1.2 if named else 0.7
        )
        texts = [
            f"{curve.name}: {channels:g} of {curve.channels[-1]:g} channels, {top1:.2f} %"
            for channels, top1 in zip(curve.channels, curve.measured, strict=True)
        ]
        look = {"label": curve.name} if named else {"c": FAINT, "s": 4}
        drawing.points(axes, shares, curve.measured.tolist(), texts, series=place, **look)


def _at_half(curve: Curve) -> float:
    """Top-1 where about half the channels are kept."""
    half = _HALF * curve.channels[-1]
    nearest = min(range(len(curve.channels)), key=lambda choice: abs(curve.channels[choice] - half))
    return float(curve.smoothed[nearest])
