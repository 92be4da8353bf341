"""How networks differ from the states of their runs is told by those that several runs measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.profiler.statistics import summarise
from lutra.tables import LatencyTable, Target, Visit
from lutra.tables.measurement import CALIBRATE, VERIFY
from lutra.tables.states import States, Unlike
from lutra.tables.states.answers import Answer, how_unlike

VISIT = Visit(1, 1, 4.0, 4.4, 3.8, 10, 1, 0.04, 0.0, run=2)
NOISE = 0.01


def answers(of_shift: float, of_run: float, networks: int, seed: int = 0) -> list[Answer]:
    """Networks in four runs of other states, each answering by more or less than they say."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(networks):
        shifts = rng.uniform(-0.05, 0.2, 4)
        own = rng.normal(0.0, of_shift) * shifts + rng.normal(0.0, of_run, 4)
        seen = own + rng.normal(0.0, NOISE, 4)
        for run in range(1, 4):
            found.append(
                Answer(
                    float(shifts[run] - shifts[:run].mean()),
                    float(seen[run] - seen[:run].mean()),
                    NOISE**2 * (1.0 + 1.0 / run),
                    run,
                    1.0,
                )
            )
    return found


@given(st.floats(0.03, 0.5), st.floats(0.0, 0.02), st.integers(0, 1 << 30))
def test_what_many_networks_do_is_learnt(of_shift: float, of_run: float, seed: int) -> None:
    found = how_unlike(answers(of_shift, of_run, 700, seed))
    assert found.of_run == pytest.approx(of_run, rel=0.3, abs=0.006)
    for shift in (0.1, 0.2):
        expected = Unlike(of_shift, of_run).error(shift)
        assert found.error(shift) == pytest.approx(expected, rel=0.3, abs=0.008)


@given(st.integers(0, 1 << 30))
def test_few_networks_change_little_of_what_is_assumed(seed: int) -> None:
    found = how_unlike(answers(0.1, 0.0, 1, seed))
    assert 0.1 < found.of_shift < 0.5


def test_what_is_assumed_is_what_nothing_tells() -> None:
    assert how_unlike([]) == Unlike()
    unheard = how_unlike([Answer(0.1, 0.0, 1.0, 1, 1e-9)])
    assert unheard.of_shift == pytest.approx(Unlike().of_shift, rel=0.1)
    assert unheard.of_run == pytest.approx(Unlike().of_run, rel=0.1)


def test_equal_visits_are_no_certainty() -> None:
    """A coarse clock, or a device that only pretends."""
    found = how_unlike([Answer(0.0, 0.0, 0.0, 1, 1.0)] * 20)
    assert 0.0 < found.of_run < Unlike().of_run
    assert np.isfinite(found.of_shift)


def test_a_burst_of_other_work_is_no_way_to_answer() -> None:
    told = answers(0.05, 0.0, 200)
    disturbed = [answer._replace(apart=0.3) if at % 20 == 0 else answer for at, answer in
                 enumerate(told)]  # fmt: skip
    plain, found = how_unlike(told), how_unlike(disturbed)
    assert found.error(0.1) < 3.0 * plain.error(0.1) < 0.03


@pytest.mark.parametrize("of_table", [1.0, 1.1], ids=["first run", "later run"])
@pytest.mark.parametrize(("alike", "least", "most"), [(True, 0.0, 0.08), (False, 0.15, 0.4)])
def test_what_searches_measured_again_tells(
    tmp_path: Path, alike: bool, least: float, most: float, of_table: float
) -> None:
    """In two runs of which one is a tenth slower; found networks are so alike, or each their own.

    What they answer to a state that both runs are of cancels.
    """
    rng = np.random.default_rng(0)
    with LatencyTable.create(tmp_path / "t.lut", Target.of_import()) as table:
        for number in range(80):
            own_ms = float(rng.uniform(2.0, 8.0))
            found = number >= 9
            answer = 1.0 if alike or not found else rng.normal(1.0, 0.25)
            runs = {1: 1.0, 2: of_table, 3: of_table * 1.1}
            for run, slower in list(runs.items())[found:]:
                own = 1.0 + (slower - 1.0) * answer
                for round_number in range(6):
                    low_ms = own_ms * own * rng.normal(1.0, 0.003)
                    visit = replace(VISIT, low_ms=low_ms, round=round_number, run=run)
                    role = VERIFY if found else CALIBRATE
                    key = f"network {number}"
                    table.record_visit("network", key, visit, summarise([visit]), role)
        assert least <= States(table).unlike.of_shift <= most
