"""Distinct rows are those that numpy finds, by a faster way."""

from __future__ import annotations

import numpy as np
import pytest

from lutra.spaces.distinct import distinct_places


@pytest.mark.parametrize("choices", [2, 300])
def test_it_agrees_with_numpy(choices: int) -> None:
    """Also with zeros at the ends, and with choices of which the high byte tells."""
    rows = np.random.default_rng(choices).integers(0, choices, (500, 3)).astype(np.int16)
    rows = np.concatenate([rows, rows[::-1]])
    expected, first = np.unique(rows, axis=0, return_index=True)
    places = distinct_places(rows)
    assert (places == first).all()
    assert (rows[places] == expected).all()


def test_no_rows_have_no_places() -> None:
    assert len(distinct_places(np.zeros((0, 4), dtype=np.int16))) == 0
