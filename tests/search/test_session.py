"""Ask and tell, driven by algorithms of others."""

from __future__ import annotations

import numpy as np
import pytest

from lutra.errors import UsageError
from lutra.search.session import SearchSession
from lutra.spaces import Rows
from tests.search.additive import feasible_small_rows, small_problem


def test_a_search_of_a_few_lines_finds_the_optimum() -> None:
    made = small_problem(5)
    session = SearchSession(made, keep=10, seed=1)
    session.tell(session.ask(50))
    rng = np.random.default_rng(0)
    for _ in range(60):
        parents = session.best(10).rows[rng.integers(0, min(10, len(session.best())), 20)]
        mutated = rng.random(parents.shape) < 0.2
        children = np.where(mutated, made.moves.draw(len(parents), rng), parents)
        session.tell(session.near(children))
    _, accuracy = feasible_small_rows(made)
    assert session.best(1).accuracy[0] == pytest.approx(accuracy[0], abs=0.02)
    assert session.best().evaluations < len(accuracy)


def test_what_is_asked_is_new_and_feasible_and_repeats_with_the_seed() -> None:
    made = small_problem(2)
    sessions = [SearchSession(made, seed=seed) for seed in (3, 3, 4)]
    asked = [session.ask(20) for session in sessions]
    assert np.array_equal(asked[0], asked[1])
    assert not np.array_equal(asked[0], asked[2])
    assert made.constraints.feasible(asked[0]).all()
    sessions[0].tell(asked[0])
    again = sessions[0].ask(20)
    told = {row.tobytes() for row in asked[0]}
    assert not told & {row.tobytes() for row in again}


def test_accuracies_from_elsewhere_count() -> None:
    session = SearchSession(small_problem(2))
    rows = session.ask(5)
    given = np.array([70.0, 72.0, 71.0, 50.0, 60.0])
    assert session.tell(rows, given).tolist() == given.tolist()
    assert session.best().accuracy.tolist() == sorted(given.tolist(), reverse=True)
    assert np.array_equal(session.best(1).rows[0], rows[1])
    assert session.tell(rows).tolist() == given.tolist()  # what was told stands


def test_rows_outside_the_limits_and_what_is_no_number_are_refused() -> None:
    made = small_problem(2)
    session = SearchSession(made)
    largest = (made.space.choice_counts - 1)[None, :]
    with pytest.raises(UsageError, match="1 of 1 rows are outside"):
        session.tell(largest)
    rows = session.ask(2)
    for accuracy in ([70.0], [70.0, np.nan]):
        with pytest.raises(UsageError, match="one number for each of the 2 rows"):
            session.tell(rows, np.array(accuracy))
    assert session.best().evaluations == 0
    assert len(session.tell(session.near(largest))) == 1


def vectors_to_rows(
    session: SearchSession, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> Rows:
    """An optimiser's vectors of 0 to 1 as rows within the limits."""
    counts = session.problem.space.choice_counts
    rows: Rows = np.minimum(vectors * counts, counts - 1).astype(np.int16)
    indices = session.problem.space.resolution_indices(session.problem.resolutions)
    rows[:, -1] = indices[np.minimum(rows[:, -1], len(indices) - 1)]
    return session.near(rows)


def test_optuna_drives_a_session() -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    session = SearchSession(small_problem(5))
    genes = len(session.problem.space.genes)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(100):
        trial = study.ask()
        vector = np.array([trial.suggest_float(f"g{gene}", 0, 1) for gene in range(genes)])
        (accuracy,) = session.tell(vectors_to_rows(session, vector[None, :]))
        study.tell(trial, accuracy)
    assert session.best(1).accuracy[0] == study.best_value


def test_pymoo_drives_a_session() -> None:
    pytest.importorskip("pymoo", reason="pymoo is not installed: pip install pymoo")
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.optimize import minimize

    session = SearchSession(small_problem(5))

    class Driven(PymooProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(session.problem.space.genes), n_obj=1, xl=0.0, xu=1.0)

        def _evaluate(
            self, x: np.ndarray[tuple[int, ...], np.dtype[np.float64]], out: dict[str, object]
        ) -> None:
            out["F"] = -session.tell(vectors_to_rows(session, x))[:, None]

    found = minimize(Driven(), GA(pop_size=30), ("n_gen", 10), seed=1)
    assert session.best(1).accuracy[0] == pytest.approx(-found.F[0])
