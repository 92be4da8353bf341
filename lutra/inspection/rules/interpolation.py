"""Rows that were computed from their neighbours instead of measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from lutra.inspection.evidence import Evidence
from lutra.inspection.finding import Finding, finding
from lutra.inspection.rules.digits import half_a_digit
from lutra.ops import OpConfig

_ENOUGH = 8  # ops at a size
_SHARE = 0.5
_BY_CHANCE = 0.02  # of a step: what printed digits leave open must be finer to tell anything
_ROUNDING = 1e-9


def interpolated(evidence: Evidence) -> Iterator[Finding]:
    """Catches resolutions that were drawn in between others: rows exactly on a straight line.

    For half of the ops or more, to the digits that are there, with the height of the network's
    image or of the op's input, or with its square. Measured ones are off it by noise alone.
    """
    series: dict[tuple[object, ...], dict[int, tuple[float, str]]] = defaultdict(dict)
    for value in evidence.values:
        name = f"{value.op.key} at {value.resolution}" if value.resolution else value.op.key
        size = value.resolution or value.op.input_shape.height
        if value.latency_ms > 0:
            series[_sort(value.op)].setdefault(size, (value.latency_ms, name))
    for power in (1, 2):
        seen: dict[int, int] = defaultdict(int)
        drawn: dict[int, list[str]] = defaultdict(list)
        for points in series.values():
            for size, name, is_drawn in _triples(points, power):
                seen[size] += 1
                drawn[size] += [name] * is_drawn
        wrong = [
            size
            for size in sorted(drawn)
            if len(drawn[size]) >= _ENOUGH and len(drawn[size]) >= _SHARE * seen[size]
        ]
        if wrong:
            yield finding(
                "interpolated",
                "error",
                f"rows of size {', '.join(map(str, wrong))} lie exactly on a line between the sizes"
                " beside: they were not measured; leave them out",
                [name for size in wrong for name in drawn[size]],
            )
            return


def _triples(
    points: Mapping[int, tuple[float, str]], power: int
) -> Iterator[tuple[int, str, bool]]:
    """Each size between two others whose values tell: it, its row, whether it is on their line."""
    sizes = sorted(points)
    for low, middle, high in zip(sizes, sizes[1:], sizes[2:], strict=False):
        (first, _), (value, name), (last, _) = points[low], points[middle], points[high]
        tolerance = max(half_a_digit(value), _ROUNDING * value)
        if tolerance >= _BY_CHANCE * abs(last - first):
            continue
        share = (middle**power - low**power) / (high**power - low**power)
        yield middle, name, abs(first + share * (last - first) - value) <= tolerance


def _sort(op: OpConfig) -> tuple[object, ...]:
    """What ops have in common that differ in the size of their image alone."""
    channels = (op.input_shape.channels, op.output_shape.channels)
    return (op.kind, *channels, *op.attributes().items())
