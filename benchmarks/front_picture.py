"""One front, found in five ways: exact, NSGA-II, and by searches at budgets along it.

    pip install '.[plots]'
    python -m benchmarks.front_picture TABLE docs/search/front.svg [--budgets 12]

For a table of a space whose accuracy model is additive. Prints how far below the exact front each
algorithm's networks are, in points of predicted accuracy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.plots import save
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.search.algorithms.front import exact_front
from lutra.search.find import find_networks
from lutra.search.fronts.find import find_front
from lutra.search.question import Maxima, ask

ALGORITHMS = {"evolution": "o", "annealing": "^", "random": "x"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--budgets", type=int, default=12)
    given = parser.parse_args()
    predictor = EfficiencyPredictor(given.table)
    question = ask(given.table, Maxima(latency_ms=1e9))
    front = exact_front(question.problem)
    exact = np.stack([predictor.predict(front.rows), front.accuracy], axis=1)
    found = {"NSGA-II": _points(find_front(given.table))}
    budgets = np.linspace(exact[:, 0].min(), exact[:, 0].max(), given.budgets + 1)[1:]
    for algorithm in ALGORITHMS:
        results = [
            find_networks(given.table, max_latency_ms=float(budget), algorithm=algorithm).best
            for budget in budgets
        ]
        found[algorithm] = np.array([[best.predicted_ms, best.accuracy] for best in results])
    print(f"exact front: {len(exact)} networks")
    for name, points in found.items():
        below = _best_at(exact, points[:, 0]) - points[:, 1]
        mean, most = below.mean(), below.max()
        print(f"{name:10} {len(points):4} networks, {mean:.3f} points below it, {most:.3f} at most")
    _draw(exact, found, given.picture)


def _points(result: object) -> Floats:
    candidates = result.candidates  # type: ignore[attr-defined]
    return np.array([[each.predicted_ms, each.accuracy] for each in candidates])


def _best_at(exact: Floats, latencies_ms: Floats) -> Floats:
    """The exact front's accuracy at latencies (N,) in ms."""
    places = np.searchsorted(exact[:, 0], latencies_ms * (1 + 1e-9), side="right") - 1
    best: Floats = exact[np.maximum(places, 0), 1]
    return best


def _draw(exact: Floats, found: dict[str, Floats], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    axes.step(exact[:, 0], exact[:, 1], where="post", color="black", lw=1, label="exact, proved")
    for name, points in found.items():
        axes.plot(
            points[:, 0],
            points[:, 1],
            ALGORITHMS.get(name, "."),
            ms=5,
            mfc="none",
            label=name,
            alpha=0.8,
        )
    axes.set_xlabel("predicted latency, ms")
    axes.set_ylabel("predicted top-1, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, picture)


if __name__ == "__main__":
    main()
