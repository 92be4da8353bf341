"""What several searches ask for is predicted once, and is what the predictor says."""

from __future__ import annotations

import numpy as np
import pytest

from lutra.errors import AccuracyError
from lutra.predictors.accuracy import Accuracies, AccuracyPredictor, load_accuracy
from lutra.predictors.accuracy.remembered import remembered
from lutra.spaces import Rows, get_space

SPACE = get_space("ofa-mbv3-fashion")


def test_no_row_is_predicted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_accuracy(space=SPACE)
    rows = SPACE.canonical(SPACE.sample(30, np.random.default_rng(0)))
    expected = plain.predict(rows)
    asked: list[bytes] = []

    def predict(given: Rows) -> Accuracies:
        asked.extend(row.tobytes() for row in given)
        return type(plain).predict(plain, given)

    monkeypatch.setattr(plain, "predict", predict)
    kept = remembered(plain)
    assert (kept.name, kept.resolutions) == (plain.name, plain.resolutions)
    for chosen in (slice(0, 20), slice(10, 30), slice(None, None, -1), slice(0, 0)):
        assert kept.predict(rows[chosen]) == pytest.approx(expected[chosen], abs=1e-4)
    assert len(asked) == len(set(asked)) == len({row.tobytes() for row in rows})


def test_what_the_predictor_refuses_is_refused() -> None:
    kept: AccuracyPredictor = remembered(load_accuracy(space=SPACE))
    with pytest.raises(AccuracyError, match="choices"):
        kept.predict(np.full((1, len(SPACE.genes)), 99, dtype=np.int16))


def test_an_additive_predictor_stays_as_it_is() -> None:
    additive = load_accuracy(space="ofa-mbv3-w1.0")
    assert remembered(additive) is additive
