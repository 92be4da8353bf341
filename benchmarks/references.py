"""Whether references and what is measured between them disturb each other.

    python -m benchmarks.references TABLE [--rounds 40]

Two experiments on the table's device, with visits as a run makes them, every round in an order of
its own. First: what each reference reads after a small op, after a network at the smallest and at
the largest resolution, and after itself, as ratios to its reading after all of them. Second: what
networks read after the references and after other networks. Each with the standard error of the
median ratio over rounds.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.states import label as label_of
from lutra.devices.base import Sample, TimingRequest
from lutra.predictors.efficiency.predictor import Floats
from lutra.profiler.bench import Bench, bench_of_table
from lutra.profiler.protocols import NETWORK_PROTOCOL, OP_PROTOCOL
from lutra.profiler.statistics import VISIT_QUANTILE
from lutra.profiler.workload import Workload, network_workload, op_workload, reference_network
from lutra.spaces import get_space, sample_networks
from lutra.tables.profiled import resolutions_of


class Timer:
    """Times workloads one after the other, as a run's visits are timed."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._protocols = {
            "op": OP_PROTOCOL.suited_to(bench.session),
            "network": NETWORK_PROTOCOL.suited_to(bench.session),
            "reference": OP_PROTOCOL.suited_to(bench.session),
        }

    def visit(self, workload: Workload) -> float:
        """One visit, in ms."""
        protocol = self._protocols[workload.category]
        request = TimingRequest(
            0,
            self._bench.store.path(workload),
            seconds=protocol.seconds,
            warmup_seconds=protocol.warmup_seconds,
            block_seconds=protocol.block_seconds,
            min_blocks=protocol.min_blocks,
            keep=True,
        )
        (outcome,) = self._bench.session.measure([request])
        assert isinstance(outcome, Sample), outcome
        return float(np.quantile(outcome.block_ms, VISIT_QUANTILE))


def references_after(
    timer: Timer, references: Sequence[Workload], before: dict[str, Workload], rounds: int
) -> None:
    print("reference, after                       ratio  standard error")
    for number, reference in enumerate(references):
        read: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name in random.sample(["itself", *before], 1 + len(before)):
                timer.visit(before.get(name, reference))
                read[name].append(timer.visit(reference))
        overall = np.median(list(read.values()), axis=0)  # of each round
        label = label_of(reference.key, number)
        for name, values in read.items():
            print(f"{label:9} {name:25} {_ratio(np.array(values) / overall)}")


def networks_after(
    timer: Timer, networks: Sequence[Workload], references: Sequence[Workload], rounds: int
) -> None:
    read: dict[str, list[list[float]]] = {"references": [], "networks": []}
    for _ in range(rounds):
        for name in random.sample(list(read), 2):
            values = {}
            for network in random.sample(list(networks), len(networks)):
                for other in references if name == "references" else random.sample(networks, 2):
                    timer.visit(other)
                values[network.key] = timer.visit(network)
            read[name].append([values[network.key] for network in networks])
    ratios = np.array(read["references"]) / np.array(read["networks"])
    print(f"networks after references, to after networks: {_ratio(np.median(ratios, axis=1))}")


def _ratio(values: Floats) -> str:
    error = 1.2533 * values.std() / np.sqrt(len(values))
    return f"{np.median(values):10.4f}  {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    random.seed(0)
    with bench_of_table(given.table) as (table, bench):
        name, covered = resolutions_of(table, None)
        space, emission = get_space(name), bench.emission
        small, large = (
            [
                network_workload(space, item, "", emission)
                for item in sample_networks(space, [resolution], 4, 7)
            ]
            for resolution in (covered[0], covered[-1])
        )
        before = {
            "a small op": op_workload(space.ops_at([covered[0]])[-1], emission),
            f"a network at {covered[0]}": small[0],
            f"a network at {covered[-1]}": large[0],
        }
        references = [*bench.references(), reference_network(emission)]
        timer = Timer(bench)
        references_after(timer, references, before, given.rounds)
        networks_after(timer, [*small, *large], references, given.rounds // 2)


if __name__ == "__main__":
    main()
