"""What slows a round slows all that is visited in it, and is taken out; noise is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.tables.measurement import Steady
from lutra.tables.states.rounds import Floats, learn_rounds

ROUNDS = 9


def visited(
    rounds: Floats, workloads: int, noise: float, seed: int = 0, run: int = 0
) -> list[list[Steady]]:
    """Workloads of 0.01 to 100 ms, each in all rounds, three to a process."""
    rng = np.random.default_rng(seed)
    return [
        [
            ((run, number // 3, number), own * slower * rng.normal(1.0, noise))
            for number, slower in enumerate(rounds)
        ]
        for own in 10.0 ** rng.uniform(-2.0, 2.0, workloads)
    ]


@given(
    st.lists(st.floats(0.9, 1.4), min_size=ROUNDS, max_size=ROUNDS),
    st.integers(8, 40),
    st.floats(0.0, 0.03),
    st.integers(0, 99),
)
def test_what_slowed_rounds_is_found(
    slower: list[float], workloads: int, noise: float, seed: int
) -> None:
    rounds = np.array(slower)
    found = learn_rounds(visited(rounds, workloads, noise, seed))
    assert len(found) == ROUNDS
    left = np.log(rounds) - np.log([found[0, number // 3, number] for number in range(ROUNDS)])
    left -= np.median(left)
    assert np.sqrt(np.mean(left**2)) <= 4.0 * noise / np.sqrt(workloads) + 1e-9


@pytest.mark.parametrize("workloads", [8, 20, 200])
def test_noise_alone_is_no_state(workloads: int) -> None:
    """What would be taken out is less than what noise does to a median of all rounds."""
    taken = [
        np.log(list(learn_rounds(visited(np.ones(ROUNDS), workloads, 0.05, seed)).values()))
        for seed in range(20)
    ]
    assert np.sqrt(np.mean(np.square(taken))) < 0.5 * 1.25 * 0.05 / np.sqrt(workloads)


def test_what_a_round_took_is_less_scattered_without_it() -> None:
    rounds = np.exp(np.random.default_rng(1).normal(0.0, 0.1, ROUNDS))
    every = visited(rounds, 12, 0.02, 3)
    found = learn_rounds(every)
    before = [np.std([np.log(low_ms) for _, low_ms in seen]) for seen in every]
    after = [np.std([np.log(low_ms / found[place]) for place, low_ms in seen]) for seen in every]
    assert np.mean(before) > 0.06
    assert np.mean(after) < 0.025


def test_rounds_are_told_within_their_own_run() -> None:
    """A run that is slower all the while is the business of what brings runs together."""
    rounds = np.array([1.0] * 8 + [1.2])
    first, second = visited(rounds, 9, 0.0), visited(1.3 * rounds, 9, 0.0, run=1)
    found = learn_rounds([a + b for a, b in zip(first, second, strict=True)])
    for run in (0, 1):
        assert found[run, 0, 0] == pytest.approx(1.0)
        assert found[run, 2, 8] == pytest.approx(1.2)


def test_few_workloads_tell_nothing() -> None:
    rounds = np.linspace(1.0, 1.5, ROUNDS)
    assert learn_rounds([]) == {}
    assert learn_rounds(visited(rounds, 7, 0.0)) == {}
    assert learn_rounds(visited(rounds[:2], 20, 0.0)) == {}
