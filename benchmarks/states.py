"""What a table's runs saw of the machine: its references, and the states of later runs.

    python -m benchmarks.states TABLE [--plot FILE.svg]

For each run, the spread of what each reference took (10th, 50th and 90th percentile over its best
tenth in the first run), and what ops and networks of that run are to those of the first. At the
end how far off such a state is: what it says of a network that it was fitted without, in each run
with six others or more, to what that took (root of the mean square, about each network's mean);
and what the table says of any network. The plot shows every visit of the references, in their
order.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from math import log, sqrt
from pathlib import Path
from statistics import fmean, median

import numpy as np

from benchmarks.plots import save
from lutra.tables import LatencyTable, Visit
from lutra.tables.measurement import VERIFY, is_architecture
from lutra.tables.states import States, fit_state
from lutra.tables.states.rounds import learn_rounds
from lutra.tables.states.runs import by_run

_LEAST_OTHERS, _LEAST_VISITS = 6, 6


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


def left_out_percent(table: LatencyTable, states: States) -> float:
    """How far off states are for a network that they were fitted without, in percent."""
    took_in: dict[str, dict[int, float]] = {}
    own_networks, references = table.steady_ms("network", but=VERIFY), table.steady_ms("reference")
    networks = set(own_networks)
    rounds = learn_rounds(table.steady_ms("network").values())
    for key, seen in (own_networks | references).items():
        if is_architecture(key):
            visits = by_run(rounds, seen)
            took_in[key] = {
                run: median(own) for run, own in visits.items() if len(own) >= _LEAST_VISITS
            }
    then = {
        key: fmean(ms * states.of("network", run).factor(ms) for run, ms in took.items())
        for key, took in took_in.items()
    }
    apart = defaultdict(list)
    for run in {run for took in took_in.values() for run in took}:
        seen_in = [key for key, took in took_in.items() if run in took]
        for key in set(seen_in) & networks if len(seen_in) > _LEAST_OTHERS else ():
            others = [other for other in seen_in if other != key]
            state = fit_state(
                [then[other] for other in others],
                [took_in[other][run] for other in others],
                constant=any(map(is_architecture, references)),
            )
            now = took_in[key][run]
            apart[key].append(log(now * state.factor(now) / then[key]))
    told = [own for own in apart.values() if len(own) > 1]
    free = sum(len(own) - 1 for own in told)
    squares = sum((each - fmean(own)) ** 2 for own in told for each in own)
    return 100.0 * sqrt(squares / free) if free else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    with LatencyTable.open(given.table) as table:
        references = {key: seen for (_, key), seen in table.all_visits("reference").items()}
        states, last = States(table), table.last_run()
        off_percent = left_out_percent(table, states)
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
    print(f"a network that a state was fitted without is {off_percent:.2f} % off it")
    unlike = states.unlike
    print(
        f"any network is off its state by {unlike.of_shift:.2f} of the shift, and by"
        f" {100 * unlike.of_run:.2f} % in each run"
    )
    if given.plot:
        plot(references, given.plot)


if __name__ == "__main__":
    main()
