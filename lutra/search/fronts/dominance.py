"""Which of several vectors are better: non-domination, ranks, crowding, hypervolume.

Values are (N, k), the smaller the better in each of the k columns. One vector dominates another
when it is nowhere larger and somewhere smaller.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def nondominated(values: Values) -> Places:
    """(N, k) -> places of the vectors that none dominates, in the order of the first column.

    Of equal vectors the first stands for all.
    """
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    order: Places = np.lexsort((*values.T[:0:-1], values[:, 0]))
    if values.shape[1] == 1:
        kept = np.zeros(1, dtype=np.intp)
    elif values.shape[1] == 2:
        second = values[order, 1]
        least = np.minimum.accumulate(np.append(np.inf, second[:-1]))
        kept = np.flatnonzero(second < least)
    elif values.shape[1] == 3:
        kept = _below_stairs(values[order, 1:])
    else:
        kept = _first_of_each(values[order])
    result: Places = order[kept]
    return result


def _below_stairs(planar: Values) -> Places:
    """`nondominated` of vectors of three columns in lexicographic order, by their last two.

    Those before are not larger in the first column: one that is not larger in the others either
    dominates, or is equal. The lowest of them are stairs, falling as the second column grows.
    """
    second: list[float] = []
    third: list[float] = []
    found = []
    for place, (x, y) in enumerate(planar.tolist()):
        step = bisect_right(second, x)
        if step and third[step - 1] <= y:
            continue
        found.append(place)
        start = end = bisect_left(second, x)
        while end < len(third) and third[end] >= y:
            end += 1
        second[start:end], third[start:end] = [x], [y]
    return np.array(found, dtype=np.intp)


def _first_of_each(ordered: Values) -> Places:
    """`nondominated` of vectors in lexicographic order, where none is dominated by a later one."""
    left, found = np.arange(len(ordered)), []
    while len(left):
        found.append(left[0])
        left = left[(ordered[left] < ordered[left[0]]).any(axis=1)]
    return np.array(found, dtype=np.intp)


def ranked(values: Values, wanted: int) -> list[Places]:
    """The fronts, best first, until ``wanted`` vectors are among them (Deb et al. 2002).

    Each is what none of those left dominates; equal vectors are in fronts of their own.
    """
    left, fronts, count = np.arange(len(values)), [], 0
    while len(left) and count < wanted:
        best = nondominated(values[left])
        fronts.append(left[best])
        count += len(best)
        left = np.delete(left, best)
    return fronts


def crowding(values: Values) -> npt.NDArray[np.float64]:
    """(N, k) of one front -> (N,): how far each is from its neighbours (Deb et al. 2002).

    The sum over columns of the gap between the next smaller and the next larger one, relative to
    the front's range; infinite at the ends of a column.
    """
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        extent = ordered[-1] - ordered[0]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / extent
    return distance


def spread_out(values: Values, count: int) -> Places:
    """Places of at most ``count`` vectors of one front: the most crowded leave, some at a time.

    The ends of columns are last to go.
    """
    places = np.arange(len(values))
    while len(places) > count:
        leaving = max(1, (len(places) - count) // 2)
        distances = crowding(values[places])
        crowded = np.argsort(distances, kind="stable")
        inner = crowded[: np.isfinite(distances).sum()]
        places = np.delete(
            places, _apart(inner if len(inner) else crowded, leaving, values[places])
        )
    return places


def _apart(crowded: Places, most: int, values: Values) -> Places:
    """The first ``most`` of the crowded ones of which no two are neighbours in the first column."""
    position = np.empty(len(values), dtype=np.intp)
    position[np.argsort(values[:, 0], kind="stable")] = np.arange(len(values))
    taken = np.zeros(len(values) + 2, dtype=bool)
    chosen: list[np.intp] = []
    for place in crowded:
        if len(chosen) == most:
            break
        here = position[place] + 1
        if not taken[here - 1 : here + 2].any():
            taken[here] = True
            chosen.append(place)
    return np.array(chosen, dtype=np.intp)


def hypervolume(values: Values, reference: npt.ArrayLike) -> float:
    """How much of the space below ``reference`` (k,) the vectors (N, k) dominate.

    Exact, by slices along the first column: quick for two columns, for hundreds of vectors of
    three.
    """
    worst = np.asarray(reference, dtype=np.float64)
    inside = values[(values < worst).all(axis=1)]
    inside = inside[nondominated(inside)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(worst[0] - inside[:, 0].min())
    widths = np.diff(np.append(inside[:, 0], worst[0]))
    if inside.shape[1] == 2:
        return float(widths @ (worst[1] - inside[:, 1]))
    slices = (hypervolume(inside[: end + 1, 1:], worst[1:]) for end in range(len(inside)))
    return float(sum(width * area for width, area in zip(widths, slices, strict=True)))
