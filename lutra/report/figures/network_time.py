"""Where a network's time goes, op by op."""

from __future__ import annotations

from lutra.ops import OpConfig, parse_key
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, OpContribution
from lutra.report.content import Content
from lutra.report.figures.drawing import SERIES, Drawing, NothingToDraw, ms, styled
from lutra.spaces import Architecture

_INCHES_PER_OP = 0.17
_REST = "not of any op"


@styled
def network_time(content: Content, architecture: Architecture) -> Drawing:
    """What each op of a network adds to its predicted latency, in ms, from input to output.

    Raises `NothingToDraw` where the table cannot predict it.
    """
    predictor = content.predictors.get(architecture.space)
    if predictor is None:
        raise NothingToDraw(f"The table cannot predict networks of {architecture.space}.")
    parts = predictor.breakdown(architecture)
    drawing = Drawing(inches_high=1.1 + _INCHES_PER_OP * len(parts))
    (axes,) = drawing.axes
    ops = [parse_key(part.key) for part in parts]
    kinds = list(dict.fromkeys(op.kind for op in ops))
    rest = predictor.constant_ms(architecture)
    widths = [*(part.predicted_ms for part in parts), rest]
    total = sum(widths)
    texts = [*(_text(part, total) for part in parts), f"{_REST}: {ms(rest)} of {ms(total)}"]
    drawing.bars(axes, widths, texts, [*(kinds.index(op.kind) for op in ops), len(kinds)])
    axes.set_yticks(range(len(widths)), [*map(_label, ops), _REST], fontsize=7.5)
    axes.grid(visible=False, axis="y")
    axes.axvline(0.0, color="none")
    axes.set_xlabel("part of the predicted latency, ms")
    for series, kind in enumerate(kinds):
        axes.barh([0], [0.0], color=SERIES[series % len(SERIES)], label=kind)
    drawing.legend(columns=4)
    return drawing


def shown_network(content: Content, found: Architecture | None) -> tuple[Architecture, str]:
    """The network to take apart, and why that one: what was found, else the one in the middle.

    Raises `NothingToDraw` where there is none.
    """
    if found is not None and found.space in content.predictors:
        return found, "the best network of the search result"
    networks = content.networks
    if networks:
        middle = networks[len(networks) // 2].architecture
        return middle, f"of {len(networks)} measured networks the one in the middle by latency"
    return _fastest(content), "the fastest network at the highest resolution, as predicted"


def _fastest(content: Content) -> Architecture:
    for predictor in content.predictors.values():
        if not content.ops:
            break
        return _fastest_of(predictor)
    raise NothingToDraw("The table holds no ops that networks could be put together from.")


def _fastest_of(predictor: EfficiencyPredictor) -> Architecture:
    row = predictor.latency.cheapest([max(predictor.resolutions)])[1]
    return predictor.space.decode(row)


def _label(op: OpConfig) -> str:
    kernel = op.attributes().get("k")
    window = f" k{kernel}" if kernel is not None else ""
    channels = f"{op.input_shape.channels}→{op.output_shape.channels}"
    return f"{op.kind}{window}, {op.input_shape.height} px, {channels}"


def _text(part: OpContribution, total_ms: float) -> str:
    share = 100.0 * part.predicted_ms / total_ms
    return (
        f"{part.key}\nadds {ms(part.predicted_ms)}, {share:.1f} % of {ms(total_ms)};"
        f" alone {ms(part.alone_ms)}"
    )
