"""Ops by kind: what each takes at which resolution, and what it takes for its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from lutra.ops import OpConfig
from lutra.report.content import Content, Op
from lutra.report.figures.drawing import (
    SERIES,
    Drawing,
    NothingToDraw,
    intervals,
    logarithmic,
    styled,
)

_PS_PER_MS = 1e9
_DODGE = 0.03  # by which a series lies beside the next, of what doubles the resolution


@styled
def latencies_by_resolution(content: Content) -> Drawing:
    """Each op's latency in ms with its 95 % interval, by the height of its input in pixels.

    Raises `NothingToDraw` for a table without ops.
    """
    groups = by_kind(_ops(content))
    drawing = Drawing()
    (axes,) = drawing.axes
    for series, (name, ops) in enumerate(groups.items()):
        aside = 2.0 ** (_DODGE * (series - (len(groups) - 1) / 2.0))
        _series(drawing, series, name, ops, _height, aside=aside)
    for axis in (axes.xaxis, axes.yaxis):
        logarithmic(axis)
    axes.set_xlabel("height of the op's input, pixels")
    axes.set_ylabel("latency, ms")
    drawing.legend()
    return drawing


@styled
def latency_per_mac(content: Content) -> Drawing:
    """What each op takes for one multiply-accumulate, in picoseconds, by its MACs in millions.

    Ops without MACs are left out. Raises `NothingToDraw` where there are no others.
    """
    ops = [op for op in _ops(content) if op.config.macs]
    if not ops:
        raise NothingToDraw("No op of the table multiplies and accumulates.")
    drawing = Drawing()
    (axes,) = drawing.axes
    for series, (name, group) in enumerate(by_kind(ops).items()):
        _series(drawing, series, name, group, lambda op: op.config.macs / 1e6, _per_mac)
    for axis in (axes.xaxis, axes.yaxis):
        logarithmic(axis)
    axes.set_xlabel("millions of multiply-accumulates (MACs)")
    axes.set_ylabel("picoseconds per MAC")
    drawing.legend()
    return drawing


def cliffs(content: Content, most: int = 8) -> list[tuple[Op, float]]:
    """The ops that are dearest for their MACs, and by which factor above their kind's median.

    At least half as much again; none of kinds with fewer than four ops.
    """
    ops = [op for op in content.ops if op.config.macs]
    found: list[tuple[Op, float]] = []
    for group in by_kind(ops).values():
        if len(group) < 4:
            continue
        usual = median(op.latency_ms / op.config.macs for op in group)
        found += [(op, op.latency_ms / op.config.macs / usual) for op in group]
    found.sort(key=lambda item: -item[1])
    return [item for item in found[:most] if item[1] >= 1.5]


def by_kind(ops: Sequence[Op]) -> dict[str, list[Op]]:
    """Ops by kind and kernel, or by kind alone where that would be more series than colours."""
    for name in (_kind_and_kernel, lambda op: op.kind):
        groups: dict[str, list[Op]] = {}
        for op in ops:
            groups.setdefault(name(op.config), []).append(op)
        if len(groups) <= len(SERIES):
            break
    return dict(sorted(groups.items()))


def _kind_and_kernel(op: OpConfig) -> str:
    kernel = op.attributes().get("k")
    return op.kind if kernel is None else f"{op.kind} k{kernel}"


def _ops(content: Content) -> list[Op]:
    if not content.ops:
        raise NothingToDraw("The table holds no ops with a latency.")
    return content.ops


def _height(op: Op) -> float:
    return op.config.input_shape.height


def _per_mac(latency_ms: float, op: Op) -> float:
    return latency_ms * _PS_PER_MS / op.config.macs


def _series(
    drawing: Drawing,
    series: int,
    name: str,
    ops: Sequence[Op],
    place: Callable[[Op], float],
    value: Callable[[float, Op], float] = lambda latency_ms, op: latency_ms,
    *,
    aside: float = 1.0,
) -> None:
    """The points of one kind of op, with their intervals."""
    (axes,) = drawing.axes
    x = [aside * place(op) for op in ops]
    low, high = (
        [None if ms is None else value(ms, op) for ms, op in zip(column, ops, strict=True)]
        for column in ([op.low_ms for op in ops], [op.high_ms for op in ops])
    )
    intervals(axes, x, low, high, series=series)
    y = [value(op.latency_ms, op) for op in ops]
    drawing.points(axes, x, y, [op.text for op in ops], series=series, label=name, s=8)
