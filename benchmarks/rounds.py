"""What taking out what slows a round gains: how halves of a table, or two tables, agree.

    python -m benchmarks.rounds TABLE [TABLE ...]

For each table, with rounds as they were and evened: by how much the medians of a workload's odd
and even visits differ, and the half-width of its interval. For each two tables next to each other,
by how much their latencies differ beside what they all do, which is the state of the machine.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from lutra.profiler.statistics import median_interval
from lutra.tables import LatencyTable
from lutra.tables.measurement import Category
from lutra.tables.states.rounds import learn_rounds

Latencies = Mapping[str, Sequence[float]]
CATEGORIES: tuple[Category, ...] = ("op", "network")
_LEAST = 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path, nargs="+")
    tables = parser.parse_args().tables
    print(f"{'table':34} {'of':8} {'rows':>5} {'halves %':>16} {'half-width %':>16}")
    print(f"{'':49} {'were':>8}{'evened':>8} {'were':>8}{'evened':>8}")
    for path, category in itertools.product(tables, CATEGORIES):
        both = [first_run(path, category, evened) for evened in (False, True)]
        halves, widths = zip(*map(own_agreement, both), strict=True)
        _line(path.name, category, len(both[0]), *halves, *widths)
    for (one, other), category in itertools.product(itertools.pairwise(tables), CATEGORIES):
        (were, usual), (evened, usual_evened) = [
            agreement(first_run(one, category, evened), first_run(other, category, evened))
            for evened in (False, True)
        ]
        if not np.isnan(were):
            print(
                f"{one} and {other}, {category}s: differ by {were:.2f} % in the mean"
                f" ({usual:.2f} in the median), evened by {evened:.2f} ({usual_evened:.2f})"
            )


def _line(name: str, category: str, rows: int, *figures: float) -> None:
    if rows:
        text = "".join(f"{figure:8.2f}" for figure in figures)
        print(f"{name:34} {category:8} {rows:5} {text[:16]} {text[16:]}")


def first_run(path: Path, category: Category, evened: bool) -> Latencies:
    """What steady visits of a table's first run took, by key; less what slowed their rounds."""
    with LatencyTable.open(path) as table:
        every = table.steady_ms(category)
    rounds = learn_rounds(every.values()) if evened else {}
    first = min((place[0] for visits in every.values() for place, _ in visits), default=0)
    found = {
        key: [low_ms / rounds.get(place, 1.0) for place, low_ms in visits if place[0] == first]
        for key, visits in every.items()
    }
    return {key: values for key, values in found.items() if len(values) >= _LEAST}


def own_agreement(latencies: Latencies) -> tuple[float, float]:
    """In percent: how halves differ, in the mean, and the half-widths' median."""
    if not latencies:
        return float("nan"), float("nan")
    halves = [abs(median(own[::2]) / median(own[1::2]) - 1.0) for own in latencies.values()]
    intervals = [(*median_interval(own), median(own)) for own in latencies.values()]
    widths = [(high - low) / 2.0 / middle for low, high, middle in intervals]
    return 100.0 * float(np.mean(halves)), 100.0 * median(widths)


def agreement(one: Latencies, other: Latencies) -> tuple[float, float]:
    """In percent: how latencies of the same workloads differ, beside what they all do."""
    ratios = [np.log(median(one[key]) / median(other[key])) for key in one if key in other]
    apart = np.abs(np.array(ratios) - np.median(ratios)) if ratios else np.array([np.nan])
    return 100.0 * float(np.mean(apart)), 100.0 * float(np.median(apart))


if __name__ == "__main__":
    main()
