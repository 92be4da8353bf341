"""What a table's runs saw of the machine: its references, and the states of later runs.

    python -m benchmarks.states TABLE [--plot FILE.svg]

For each run, the spread of what each reference took (10th, 50th and 90th percentile over its best
tenth in the first run), and what ops and networks of that run are to those of the first. The plot
shows every visit of the references, in their order.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.plots import save
from lutra.tables import LatencyTable, Visit
from lutra.tables.measurement import is_architecture
from lutra.tables.states import States


def label(key: str, number: int) -> str:
    return "network" if is_architecture(key) else f"block {number + 1}"


def plot(references: dict[str, list[Visit]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for number, (key, visits) in enumerate(references.items()):
        low = np.array([visit.low_ms for visit in visits])
        axes.plot(low / np.quantile(low, 0.1), ".", label=label(key, number))
    axes.set(xlabel="visit", ylabel="to its best tenth", yscale="log")
    axes.set_yticks([1, 1.2, 1.5, 2], ["1.0", "1.2", "1.5", "2.0"])
    axes.minorticks_off()
    axes.legend()
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    with LatencyTable.open(given.table) as table:
        references = {key: seen for (_, key), seen in table.all_visits("reference").items()}
        states, last = States(table), table.last_run()
    first = min(visit.run for visits in references.values() for visit in visits)
    print("run  reference  visits    10 %    50 %    90 %")
    for run in range(first, last + 1):
        for number, (key, visits) in enumerate(references.items()):
            best = np.quantile([visit.low_ms for visit in visits if visit.run == first], 0.1)
            own = [visit.low_ms / best for visit in visits if visit.run == run]
            if own:
                shares = "  ".join(f"{value:6.3f}" for value in np.quantile(own, (0.1, 0.5, 0.9)))
                print(f"{run:3}  {label(key, number):9}  {len(own):6}  {shares}")
    for run in range(first + 1, last + 1):
        for category in ("op", "network"):
            state = states.of(category, run)
            print(
                f"run {run}, {category}s: {state.scale:.4f} x + {state.constant_ms:.4f} ms"
                f" by {state.anchors} anchors that lie within {100 * state.spread:.1f} %"
            )
    if given.plot:
        plot(references, given.plot)


if __name__ == "__main__":
    main()
