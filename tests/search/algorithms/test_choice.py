"""Which algorithm a search takes, what it says of its answer, and how it ends early."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lutra.errors import UsageError
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.search.algorithms import algorithm_names, get_algorithm
from lutra.search.algorithms.annealing import AnnealingHyperparameters
from lutra.search.algorithms.base import Archive
from lutra.search.algorithms.descent import descend
from lutra.search.algorithms.evolution import EvolutionHyperparameters
from lutra.search.algorithms.presets import AUTO, PRESETS, resolve
from lutra.search.problem import Problem
from lutra.spaces import Rows
from tests.search.additive import feasible_small_rows, small_problem


class Curved(AccuracyPredictor):
    """Another problem's accuracy, with interactions: no sum over choices."""

    def __init__(
        self, inner: AccuracyPredictor, on_call: Callable[[], None] = lambda: None
    ) -> None:
        self.name, self.space = "curved", inner.space
        self.resolutions, self.provenance, self.quality = inner.resolutions, "made up", {}
        self._inner = inner
        self._on_call = on_call

    def predict(self, rows: Rows) -> Accuracies:
        self._on_call()
        odd = np.sin(rows[:, :-1].astype(float) @ np.arange(1, rows.shape[1]))
        accuracy: Accuracies = self._inner.predict(rows) + 0.3 * odd
        return accuracy


def curved(seed: int, on_call: Callable[[], None] = lambda: None) -> Problem:
    made = small_problem(seed)
    return Problem(made.space, Curved(made.accuracy, on_call), made.limits, made.resolutions)


def test_additive_accuracies_are_searched_exactly() -> None:
    made = small_problem(1)
    assert resolve(AUTO, None, made.accuracy) == ("exact", {})
    assert resolve(AUTO, None, curved(1).accuracy) == ("surrogate", {})
    assert resolve("random", None, made.accuracy) == ("random", {})


def test_exact_proves_and_says_so() -> None:
    made = small_problem(1)
    algorithm = get_algorithm("exact")
    found = algorithm.run(
        made, algorithm.hyperparameters(keep=4, distance=3), np.random.default_rng(0)
    )
    assert found.gap == 0.0
    assert found.notes == ("proved: no subnet within the limits is predicted more accurate",)
    assert found.accuracy[0] == pytest.approx(feasible_small_rows(made)[1][0], abs=1e-6)
    apart = (found.rows[:, None] != found.rows).sum(axis=2)
    assert (apart[np.triu_indices(len(apart), 1)] >= 3).all()


@pytest.mark.parametrize("seed", range(4))
def test_surrogates_find_the_optimum_of_a_small_space(seed: int) -> None:
    made = curved(seed)
    algorithm = get_algorithm("exact")
    found = algorithm.run(made, algorithm.hyperparameters(), np.random.default_rng(seed))
    assert found.gap is None
    assert "nothing proves" in found.notes[0]
    assert found.accuracy[0] == feasible_small_rows(made)[1][0]


def test_distance_needs_an_additive_accuracy() -> None:
    algorithm = get_algorithm("exact")
    with pytest.raises(UsageError, match="distance = 5 needs an additive accuracy; curved is not"):
        algorithm.run(curved(0), algorithm.hyperparameters(distance=5), np.random.default_rng(0))


def test_a_descent_ends_where_no_two_changes_help() -> None:
    made = curved(3)
    archive = Archive(made, 5)
    archive.score(made.anchor[None, :])
    descend(made, archive, 50)
    rows, accuracy = feasible_small_rows(made)
    best = archive.best(1)
    changes = (rows != best.rows[0]).sum(axis=1)
    assert accuracy[changes <= 2].max() == best.accuracy[0]


def test_presets_are_settings_of_their_algorithms() -> None:
    accuracy = small_problem(1).accuracy
    for name, preset in PRESETS.items():
        algorithm, settings = resolve(AUTO, name, accuracy)
        assert (algorithm, settings) == preset
        get_algorithm(algorithm).hyperparameters(**settings)
    ofa = get_algorithm("evolution").hyperparameters(**PRESETS["ofa"].hyperparameters)
    assert isinstance(ofa, EvolutionHyperparameters)
    assert (ofa.parents, ofa.phases) == (25, (500,))
    light = get_algorithm("annealing").hyperparameters(**PRESETS["light-nas"].hyperparameters)
    assert isinstance(light, AnnealingHyperparameters)
    assert (light.chains, light.changes, light.polish) == (1, 1, 0)


def test_unknown_presets_and_two_wishes_are_refused() -> None:
    accuracy = small_problem(1).accuracy
    with pytest.raises(UsageError, match=r"known: light-nas, ofa\. Did you mean 'light-nas'\?"):
        resolve(AUTO, "light-nsa", accuracy)
    with pytest.raises(UsageError, match="name one only"):
        resolve("random", "ofa", accuracy)


@pytest.mark.parametrize("name", [name for name in algorithm_names() if name != "exact"])
def test_interrupted_searches_give_the_best_so_far(name: str) -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    algorithm = get_algorithm(name)
    made = curved(4, count)
    found = algorithm.run(made, algorithm.hyperparameters(), np.random.default_rng(0))
    assert found.interrupted
    assert found.notes[0] == "interrupted: the best so far"
    assert calls == 4
    assert len(found) > 0
    assert made.constraints.feasible(found.rows).all()


def test_an_interruption_before_anything_is_known_is_passed_on() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    algorithm = get_algorithm("evolution")
    with pytest.raises(KeyboardInterrupt):
        algorithm.run(curved(4, stop), algorithm.hyperparameters(), np.random.default_rng(0))
