"""Rows of two operating points in one table: batch sizes mixed up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from lutra.inspection.evidence import Evidence, Floats, Mask, Neighbours
from lutra.inspection.finding import Finding, finding
from lutra.ops import OpConfig

_LEAST_RATIO, _MOST_RATIO = 1.8, 300.0
_LEAST_SHARE, _LEAST_ROWS = 0.05, 10
_CLEAR = 4.0  # gaps between groups to their own spread
_WHOLE = 0.1  # relative: batch 8 takes about 8 times as long
_DEVIATIONS = 1.4826
_OF_ONE_SIDE = 0.9
_STEPS = 10


def batch(evidence: Evidence) -> Iterator[Finding]:
    """Catches batch sizes mixed up: OFA's own networks are named by times of 1 and of 64 images.

    Rows fall into two groups at different paces, clear of each other. A group that is all of the
    ops of some kernel size and width is the runtime's doing (a cliff) and is let pass.
    """
    for kind in evidence.kinds:
        slow = _slow_group(kind)
        if slow is None or _is_cliff(kind, slow):
            continue
        ratio = float(np.exp(_fitted(kind, slow)[0]))
        whole = ratio >= 2 * (1 - _WHOLE) and abs(ratio / round(ratio) - 1) <= _WHOLE
        where = np.zeros(len(evidence.values), dtype=np.bool_)
        where[kind.where[slow]] = True
        words = f"the slower as if of batch {round(ratio)}" if whole else "as of two settings"
        yield finding(
            "batch",
            "error" if whole else "warning",
            f"rows are of two groups, one {ratio:.3g} times as slow for its work, {words}; keep"
            " those of one batch size, device and setting",
            evidence.keys(where),
        )


def _slow_group(kind: Neighbours) -> Mask | None:
    """(rows,): the slower of two groups that are clear of each other, if there are.

    A fit of all rows is drawn to the group with more of them where that is of other ops: so it is
    made again with each group at a pace of its own, and rows join the one that they are nearer to.
    """
    slow, apart = _above_widest_gap(kind.apart), kind.apart
    if slow is None:
        return None
    for _ in range(_STEPS):
        pace, apart = _fitted(kind, slow)
        before, slow = slow, apart > pace / 2
        if np.array_equal(slow, before):
            break
    if min(slow.sum(), (~slow).sum()) < _least(len(slow)):
        return None
    difference = float(np.median(apart[slow]) - np.median(apart[~slow]))
    if not np.log(_LEAST_RATIO) <= difference <= np.log(_MOST_RATIO):
        return None
    spread = max(_spread(apart[slow]), _spread(apart[~slow]))
    return slow if difference >= _CLEAR * spread else None


def _above_widest_gap(apart: Floats) -> Mask | None:
    """(rows,) -> (rows,): where the widest gap that leaves enough rows on either side is below."""
    ordered = np.sort(apart)
    least = _least(len(ordered))
    gaps = np.diff(ordered)[least - 1 : len(ordered) - least]
    if not len(gaps):
        return None
    above: Mask = apart > ordered[least - 1 + int(gaps.argmax())]
    return above


def _least(rows: int) -> int:
    return max(int(_LEAST_SHARE * rows), _LEAST_ROWS)


def _fitted(kind: Neighbours, slow: Mask) -> tuple[float, Floats]:
    """How much slower the group is, as a logarithm, and (rows,) what all else leaves of latency."""
    design = np.column_stack([np.ones(len(slow)), kind.features])
    *terms, pace = np.linalg.lstsq(np.column_stack([design, slow]), kind.logarithms, rcond=None)[0]
    return float(pace), kind.logarithms - design @ terms


def _spread(values: Floats) -> float:
    return _DEVIATIONS * float(np.median(np.abs(values - np.median(values))))


def _is_cliff(kind: Neighbours, slow: Mask) -> bool:
    """Whether the rows of the smaller group are in it by what their ops are, at any size."""
    fewer = slow if 2 * slow.sum() <= len(slow) else ~slow
    sides: dict[tuple[object, ...], list[bool]] = defaultdict(list)
    for op, is_of_fewer in zip(kind.ops, fewer, strict=True):
        sides[_sort(op)].append(bool(is_of_fewer))
    explained = sum(sum(side) for side in sides.values() if sum(side) >= _OF_ONE_SIDE * len(side))
    return explained >= _OF_ONE_SIDE * int(fewer.sum())


def _sort(op: OpConfig) -> tuple[object, ...]:
    """What ops of one sort have in common, at whatever size of image."""
    attributes = op.attributes()
    return tuple(attributes.get(name) for name in ("k", "s", "act", "se", "res"))
