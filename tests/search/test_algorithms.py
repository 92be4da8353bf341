from __future__ import annotations

import time

import numpy as np
import pytest

from lutra.errors import AccuracyError, InfeasibleError, UsageError
from lutra.predictors.efficiency.costs import macs_cost
from lutra.search.algorithms import Archive, RankedRows, algorithm_names, get_algorithm
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from lutra.spaces import get_space
from tests.search.synthetic import MBV3, RESOLUTIONS, AdditiveAccuracy, latency, optimum, problem

SHORT: dict[str, dict[str, int]] = {
    "evolution": {"generations": 40, "islands": 3, "population": 50},
    "annealing": {"chains": 16, "steps": 40, "rounds": 2, "polish": 1},
    "exact": {},
    "surrogate": {"samples": 60, "rounds": 2, "solutions": 20, "climbs": 6},
    "regularised": {"population": 40, "sample": 5, "batch": 20, "cycles": 30},
    "random": {"samples": 1500, "batch": 500},
}


def search(name: str, made: Problem, seed: int = 0, **hyperparameters: float) -> RankedRows:
    algorithm = get_algorithm(name)
    return algorithm.run(
        made, algorithm.hyperparameters(**hyperparameters), np.random.default_rng(seed)
    )


def check(made: Problem, found: RankedRows) -> None:
    """What holds of every result: feasible, canonical, distinct, best first, scored once."""
    accuracy = made.accuracy
    assert isinstance(accuracy, AdditiveAccuracy)
    assert len(accuracy.scored) == len(set(accuracy.scored)) == found.evaluations
    assert len(found) > 0
    assert made.constraints.feasible(found.rows).all()
    assert np.array_equal(found.rows, made.space.canonical(found.rows))
    assert len(np.unique(found.rows, axis=0)) == len(found)
    assert (np.diff(found.accuracy) <= 0).all()
    assert np.array_equal(found.accuracy, accuracy.gain.of(found.rows))


@pytest.mark.parametrize("factor", [1.3, 2.5])
def test_heuristics_come_near_the_exact_optimum(factor: float) -> None:
    low, high = optimum(problem(factor))
    assert high - low < 0.05
    best = {}
    for name in ("evolution", "annealing", "regularised", "surrogate", "random"):
        made = problem(factor)
        found = search(name, made, **({"samples": 10_000} if name == "random" else {}))
        check(made, found)
        best[name] = found.accuracy[0]
        assert best[name] <= high
    assert best["evolution"] >= low - 0.05
    assert best["surrogate"] >= low - 0.05
    assert best["regularised"] >= low - 0.1
    assert best["annealing"] >= low - 0.1
    assert best["random"] <= min(best["evolution"], best["annealing"])


@pytest.mark.parametrize("name", algorithm_names())
@pytest.mark.parametrize("space", [MBV3, "ofa-resnet50d"])
def test_results_are_sound_and_repeatable(name: str, space: str) -> None:
    made = problem(1.5, space)
    first = search(name, made, 7, **SHORT[name])
    check(made, first)
    again = search(name, problem(1.5, space), 7, **SHORT[name])
    other = search(name, problem(1.5, space), 8, **SHORT[name])
    assert np.array_equal(first.rows, again.rows)
    assert first.evaluations == again.evaluations
    assert not np.array_equal(first.rows, other.rows)


@pytest.mark.parametrize("name", algorithm_names())
def test_a_tight_limit_works(name: str) -> None:
    made = problem(1.01)
    started = time.process_time()
    found = search(name, made, **SHORT[name])
    assert time.process_time() - started < 5.0
    check(made, found)


@pytest.mark.parametrize("name", algorithm_names())
def test_an_infeasible_limit_never_starts_a_search(name: str) -> None:
    cost = latency(get_space(MBV3))
    fastest = cost.cheapest(RESOLUTIONS)[0]
    accuracy = AdditiveAccuracy(cost.space, RESOLUTIONS)
    made = Problem(cost.space, accuracy, (Limit(cost, 0.9 * fastest),), RESOLUTIONS)
    started = time.process_time()
    with pytest.raises(InfeasibleError, match=f"{fastest:.6g} ms"):
        search(name, made)
    assert time.process_time() - started < 1.0
    assert not accuracy.scored


@pytest.mark.parametrize("name", algorithm_names())
def test_two_limits_hold_together(name: str) -> None:
    fast, small = latency(get_space(MBV3)), macs_cost(get_space(MBV3))
    limits = tuple(Limit(c, 1.5 * c.cheapest(RESOLUTIONS)[0]) for c in (fast, small))
    made = Problem(fast.space, AdditiveAccuracy(fast.space, RESOLUTIONS), limits, RESOLUTIONS)
    check(made, search(name, made, **SHORT[name]))


@pytest.mark.parametrize("name", algorithm_names())
def test_progress_ends_at_its_total(name: str) -> None:
    steps: list[tuple[int, int]] = []
    algorithm = get_algorithm(name)
    algorithm.run(
        problem(2.0),
        algorithm.hyperparameters(**SHORT[name]),
        np.random.default_rng(0),
        lambda done, total: steps.append((done, total)),
    )
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]


def test_one_island_and_few_generations() -> None:
    for hyperparameters in ({"islands": 1, "generations": 5}, {"islands": 8, "generations": 3}):
        made = problem(2.0)
        check(made, search("evolution", made, **hyperparameters))


def test_ties_are_ordered_by_cost() -> None:
    made = problem(3.0)

    class Flat(AdditiveAccuracy):
        def predict(
            self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int16]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            return np.full(len(rows), 75.0)

    flat = Problem(made.space, Flat(made.space, RESOLUTIONS), made.limits, RESOLUTIONS)
    archive = Archive(flat, 5)
    rows = flat.repair(flat.moves.draw(50, np.random.default_rng(0)), np.random.default_rng(0))
    archive.score(rows)
    costs = flat.constraints.costs_of(rows)[:, 0]
    assert flat.constraints.costs_of(archive.best().rows)[:, 0].tolist() == sorted(set(costs))[:5]


def test_a_predictor_without_an_answer_is_an_error() -> None:
    made = problem(3.0)

    class Silent(AdditiveAccuracy):
        def predict(
            self, rows: np.ndarray[tuple[int, ...], np.dtype[np.int16]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
            return np.full(len(rows), np.nan)

    silent = Problem(made.space, Silent(made.space, RESOLUTIONS), made.limits, RESOLUTIONS)
    with pytest.raises(AccuracyError, match="no number for 1 of 1"):
        search("random", silent)


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(
        UsageError, match="known: annealing, evolution, surrogate, exact, random, regularised"
    ):
        get_algorithm("oracle")
    for name, hyperparameter, value in [
        ("evolution", "parent_ratio", 1.5),
        ("evolution", "population", 1),
        ("annealing", "cooling", -0.1),
        ("annealing", "steps", 2.5),
        ("random", "samples", 0),
        ("random", "keep", 0),
    ]:
        with pytest.raises(UsageError, match=hyperparameter):
            get_algorithm(name).hyperparameters(**{hyperparameter: value})
