"""Non-domination, ranks and hypervolume against what their definitions say, tried out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.search.fronts.dominance import (
    Values,
    crowding,
    hypervolume,
    nondominated,
    ranked,
    spread_out,
)

MOST = 5


@st.composite
def vectors(draw: st.DrawFn, least: int = 0) -> Values:
    """Few whole numbers, so that many are equal in a column or in all."""
    columns = draw(st.integers(1, 4))
    vector = st.lists(st.integers(0, MOST), min_size=columns, max_size=columns)
    rows = draw(st.lists(vector, min_size=least, max_size=25))
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns)


def dominates(one: Values, other: Values) -> bool:
    return bool((one <= other).all() and (one < other).any())


@given(vectors())
def test_the_front_is_what_none_dominates(values: Values) -> None:
    kept = nondominated(values)
    expected = {
        tuple(vector) for vector in values if not any(dominates(other, vector) for other in values)
    }
    assert {tuple(vector) for vector in values[kept]} == expected
    assert len(kept) == len(expected)  # of equal ones a single one
    assert (np.diff(values[kept, 0]) >= 0).all()
    for place in kept:
        equal = (values == values[place]).all(axis=1)
        assert place == np.flatnonzero(equal)[0]


@given(vectors(least=1), st.integers(1, 30))
def test_ranks_are_fronts_of_what_is_left(values: Values, wanted: int) -> None:
    fronts = ranked(values, wanted)
    places = np.concatenate(fronts)
    assert len(set(places.tolist())) == len(places)
    assert len(places) >= min(wanted, len(values))
    assert len(places) - len(fronts[-1]) < wanted
    left = set(range(len(values)))
    for front in fronts:
        for place in front:
            assert not any(dominates(values[other], values[place]) for other in left)
        left -= set(front.tolist())


@given(vectors())
def test_hypervolume_counts_the_unit_cells_that_are_dominated(values: Values) -> None:
    columns = values.shape[1]
    cells = product(range(MOST + 1), repeat=columns)
    inside = sum(any((vector <= cell).all() for vector in values) for cell in map(np.array, cells))
    assert hypervolume(values, [MOST + 1.0] * columns) == pytest.approx(inside)


def test_what_is_not_below_the_reference_counts_for_nothing() -> None:
    values = np.array([[0.0, 2.0], [1.0, 1.0], [3.0, 0.0]])
    assert hypervolume(values, [2.0, 2.0]) == 1.0
    assert hypervolume(values, [0.0, 0.0]) == 0.0


def test_crowding_is_the_gap_between_neighbours() -> None:
    values = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [2.0, 1.0]])
    assert crowding(values).tolist() == [np.inf, 2 / 4 + 3 / 4, np.inf, 3 / 4 + 2 / 4]
    assert crowding(np.zeros((3, 2)))[1] == 0.0


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60, unique=True), st.integers(2, 20))
def test_what_is_kept_of_a_front_spans_it(places: list[float], count: int) -> None:
    first = np.sort(np.array(places))
    values = np.stack([first, -first], axis=1)
    kept = spread_out(values, count)
    assert len(kept) == min(count, len(values))
    assert {0, len(values) - 1} <= set(kept.tolist())


def test_what_is_kept_of_an_even_front_is_even() -> None:
    first = np.linspace(0.0, 1.0, 401)
    values = np.stack([first, 1.0 - first], axis=1)
    kept = np.sort(values[spread_out(values, 51), 0])
    assert np.diff(kept).max() <= 2.5 / 50
