"""Fronts of accuracy and latency: ours and pymoo's NSGA-II against the exact front.

    pip install '.[benchmark]'
    python -m benchmarks.search_front [TABLE ...] [--seeds 10] [--evaluations 20000]

Hypervolume relative to the exact front's, whose reference point is its worst corner and a tenth of
its range beyond, at the same number of distinct architectures evaluated, the same objectives and
the same seeds. Problems: each TABLE of a space whose accuracy model is additive, with that model;
and made-up ones, in which every op's price and accuracy has a random part of its own, so that
resolutions are traps. CPU time is of one process and includes everything.

pymoo searches the same integer genes with its own operators for integers (random sampling, SBX and
polynomial mutation with repair by rounding) and again with uniform crossover and our mutation's
probability; what it is given is canonical, and duplicates are eliminated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.search.fronts.dominance import hypervolume, nondominated
from lutra.search.fronts.nsga2 import Nsga2Hyperparameters, nsga2
from lutra.search.fronts.objectives import Objective, objectives_of
from lutra.search.problem import Problem
from lutra.search.question import Maxima, ask
from lutra.spaces import get_space
from tests.search.exact_front import exact_front, lattice_front
from tests.search.synthetic import AdditiveAccuracy, latency

Values = npt.NDArray[np.float64]

MADE_UP = {
    "made up, ofa-mbv3-w1.0 at 3": ("ofa-mbv3-w1.0", (160, 192, 224)),
    "made up, ofa-mbv3-w1.0 at 25": ("ofa-mbv3-w1.0", tuple(range(128, 225, 4))),
    "made up, ofa-resnet50d at 3": ("ofa-resnet50d", (160, 192, 224)),
}


@dataclass(frozen=True)
class Case:
    """A problem, its two objectives and its exact front (N, 2), accuracy negated."""

    name: str
    problem: Problem
    objectives: tuple[Objective, ...]
    exact: Values

    def share(self, values: Values) -> float:
        """The hypervolume of a front relative to the exact one's."""
        worst = self.exact.max(axis=0) + 0.1 * np.ptp(self.exact, axis=0)
        return hypervolume(values, worst) / hypervolume(self.exact, worst)


def main() -> None:
    """Print a line per problem and method: quartiles of hypervolume over seeds, CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=20_000)
    given = parser.parse_args()
    cases = [_measured(path) for path in given.tables]
    cases += [_made_up(name, *MADE_UP[name]) for name in MADE_UP]
    print(f"{given.evaluations} evaluations, {given.seeds} seeds; hypervolume of the exact front's")
    print(
        f"{'problem':32} {'method':16} {'least':>7} {'median':>7} {'most':>7} {'points':>6} CPU s"
    )
    for case in cases:
        print(f"{case.name:32} {'exact':16} {1:7.4f} {1:7.4f} {1:7.4f} {len(case.exact):6}")
        for method, search in METHODS.items():
            _print(case, method, search, given.seeds, given.evaluations)


def _print(
    case: Case,
    method: str,
    search: Callable[[Case, int, int], Values],
    seeds: int,
    evaluations: int,
) -> None:
    started = time.process_time()
    fronts = [search(case, seed, evaluations) for seed in range(seeds)]
    seconds = (time.process_time() - started) / seeds
    shares = [case.share(front) for front in fronts]
    points = np.median([len(front) for front in fronts])
    print(
        f"{case.name:32} {method:16} {min(shares):7.4f} {np.median(shares):7.4f}"
        f" {max(shares):7.4f} {points:6.0f} {seconds:.2f}",
        flush=True,
    )


def _measured(path: Path) -> Case:
    question = ask(path, Maxima())
    (form,) = question.predictor.latency.forms
    accuracy = question.accuracy
    assert isinstance(accuracy, AdditivePredictor), "the exact front needs an additive model"
    fronts = []
    for resolution in question.resolutions:
        lattice = question.space.lattice(resolution)
        prices = np.append(form.prices, 0.0)[[edge.op for edge in lattice.edges]]
        fronts.append(lattice_front(lattice, np.stack([-accuracy.edge_scores(lattice), prices], 1)))
    scores, latencies = np.concatenate(fronts).T
    values = np.stack(
        [-accuracy.accuracy_of(accuracy.intercept - scores), latencies + form.constant], axis=1
    )
    return Case(
        path.stem,
        question.problem,
        objectives_of(question, ("accuracy", "latency")),
        values[nondominated(values)],
    )


def _made_up(name: str, space_name: str, resolutions: tuple[int, ...]) -> Case:
    space = get_space(space_name)
    accuracy, cost = AdditiveAccuracy(space, resolutions), latency(space)
    return Case(
        name,
        Problem(space, accuracy, (), resolutions),
        (Objective("accuracy", None), Objective("latency", cost.of)),
        exact_front(accuracy.loss, cost, resolutions),
    )


def _ours(case: Case, seed: int, evaluations: int) -> Values:
    settings = Nsga2Hyperparameters()
    settings = Nsga2Hyperparameters(generations=evaluations // settings.population)
    rng = np.random.default_rng(seed)
    return nsga2(case.problem, case.objectives, settings, rng).values


def _kept_rows(rows: Values, case: Case) -> npt.NDArray[np.int16]:
    """Canonical rows of what pymoo proposes: its last gene counts the problem's resolutions."""
    indices = np.unique(case.problem.space.resolution_indices(case.problem.resolutions))
    result = rows.astype(np.int16)
    result[:, -1] = indices[result[:, -1]]
    return case.problem.space.canonical(result)


def _pymoo(case: Case, seed: int, evaluations: int, operators: dict[str, Any]) -> Values:
    """The front of all that it evaluated, as ours is: its last population is smaller."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.optimize import minimize

    seen: list[Values] = []
    counts = case.problem.moves.choice_counts

    class Asked(PymooProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(counts), n_obj=2, xl=0, xu=counts - 1, vtype=int)

        def _evaluate(self, rows: Values, out: dict[str, Values], *_: Any, **__: Any) -> None:
            canonical = _kept_rows(rows, case)
            accuracy = case.problem.accuracy_of(canonical)
            cost = case.objectives[1].of
            assert cost is not None
            out["F"] = np.stack([-accuracy, cost(canonical)], axis=1)
            seen.append(out["F"])

    population = Nsga2Hyperparameters().population
    algorithm = NSGA2(pop_size=population, eliminate_duplicates=True, **operators)
    minimize(Asked(), algorithm, ("n_eval", evaluations), seed=seed)
    values = np.concatenate(seen)
    return values[nondominated(values)]


def _pymoo_sbx(case: Case, seed: int, evaluations: int) -> Values:
    """As pymoo's documentation has it for integers."""
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    rounded = RoundingRepair()
    operators = {
        "sampling": IntegerRandomSampling(),
        "crossover": SBX(prob=1.0, eta=3.0, vtype=float, repair=rounded),
        "mutation": PM(prob=1.0, eta=3.0, vtype=float, repair=rounded),
    }
    return _pymoo(case, seed, evaluations, operators)


def _pymoo_uniform(case: Case, seed: int, evaluations: int) -> Values:
    """With operators for genes without an order, like ours."""
    from pymoo.core.mutation import Mutation
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    settings = Nsga2Hyperparameters()

    class Redrawn(Mutation):  # type: ignore[misc]
        def _do(self, problem: Any, rows: Values, *_: Any, random_state: Any, **__: Any) -> Values:
            drawn = random_state.integers(0, problem.xu + 1, rows.shape)
            changed = random_state.random(rows.shape) < settings.mutation_probability
            result: Values = np.where(changed, drawn, rows)
            return result

    operators = {
        "sampling": IntegerRandomSampling(),
        "crossover": UniformCrossover(prob=settings.crossover_ratio),
        "mutation": Redrawn(prob=1.0),
    }
    return _pymoo(case, seed, evaluations, operators)


METHODS = {"ours": _ours, "pymoo, SBX": _pymoo_sbx, "pymoo, uniform": _pymoo_uniform}


if __name__ == "__main__":
    main()
