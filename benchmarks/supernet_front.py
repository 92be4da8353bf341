"""Found networks against uniformly drawn ones: latency and accuracy, both measured.

Networks are searched at several budgets with a table and an accuracy model, others drawn as OFA
draws them. All are timed in the same shuffled rounds on the table's device, and evaluated on the
test images with the supernet's weights, batch-norm statistics re-estimated.

    python -m benchmarks.supernet_front TABLE CHECKPOINT --data FOLDER --picture docs/front.svg
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.plots import save
from lutra.predictors.accuracy.loading import load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import bench_of_target
from lutra.profiler.protocols import NETWORK_PROTOCOL
from lutra.profiler.workload import network_workload
from lutra.search.find import find_networks
from lutra.spaces import Architecture
from lutra.supernets.checkpoints.checkpoint import load_supernet
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.tables import LatencyTable, Target
from lutra.tables.measurement import VERIFY
from lutra.tables.profiled import device_of


@dataclass(frozen=True)
class Point:
    """A network as it was measured."""

    kind: str
    budget_ms: float
    predicted_ms: float
    measured_ms: float
    top1: float


def main() -> None:
    """Print a line per network; say by how much the found ones are ahead; draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--accuracy", help="of load_accuracy; by default the space's")
    parser.add_argument("--budgets", type=int, default=8)
    parser.add_argument("--random", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    supernet = load_supernet(given.checkpoint)
    predictor = EfficiencyPredictor(given.table, supernet.space)
    drawn = supernet.space.sample(
        given.random, np.random.default_rng(given.seed), predictor.resolutions
    )
    chosen = [("random", float("nan"), supernet.space.decode(row)) for row in drawn]
    predicted = predictor.predict(drawn)
    accuracy = load_accuracy(given.accuracy, supernet.space)
    for budget_ms in np.linspace(predicted.min(), predicted.max(), given.budgets):
        found = find_networks(
            given.table, max_latency_ms=budget_ms, accuracy=accuracy, space=supernet.space
        )
        chosen.append(("found", float(budget_ms), found.best.architecture))
    points = _measured(given.table, supernet, predictor, chosen, given.data)
    _print(points)
    if given.picture is not None:
        with LatencyTable.open(given.table) as table:
            _draw(points, table.target, given.picture)


def _measured(
    path: Path,
    supernet: Supernet,
    predictor: EfficiencyPredictor,
    chosen: list[tuple[str, float, Architecture]],
    data: Path,
) -> list[Point]:
    space = supernet.space
    architectures = list(dict.fromkeys(architecture for _, _, architecture in chosen))
    with LatencyTable.open(path) as table:
        target, device = table.target, device_of(table)
    with (
        tempfile.TemporaryDirectory() as folder,
        bench_of_target(device, target) as bench,
        LatencyTable.create(Path(folder) / "front.lut", bench.target) as measured,
    ):
        workloads = [network_workload(space, a, VERIFY, bench.emission) for a in architectures]
        bench.measure(measured, workloads, NETWORK_PROTOCOL)
        rows = {row.key: row.measurement for row in measured.rows("network")}
    train, test = load_images(data, "train"), load_images(data, "test")
    points = {}
    for architecture in architectures:
        subnet = supernet.subnet(architecture)
        tune_statistics(subnet, train, architecture.r)
        measurement = rows[architecture.key]
        assert measurement is not None
        points[architecture] = (
            float(predictor.predict(space.encode(architecture)[None])[0]),
            measurement.latency_ms,
            top1(subnet, test, architecture.r).percent,
        )
    return [Point(kind, budget, *points[architecture]) for kind, budget, architecture in chosen]


def _print(points: list[Point]) -> None:
    print(f"{'network':8} {'budget_ms':>9} {'predicted_ms':>12} {'measured_ms':>11} {'top-1 %':>8}")
    for point in sorted(points, key=lambda point: (point.kind, point.measured_ms)):
        print(
            f"{point.kind:8} {point.budget_ms:9.3f} {point.predicted_ms:12.3f}"
            f" {point.measured_ms:11.3f} {point.top1:8.2f}"
        )
    drawn = [point for point in points if point.kind == "random"]
    for found in (point for point in points if point.kind == "found"):
        rivals = [point.top1 for point in drawn if point.measured_ms <= found.measured_ms]
        if rivals:
            print(
                f"found at {found.measured_ms:.3f} ms: {found.top1:.2f} %, the best of"
                f" {len(rivals)} random ones that are as fast: {max(rivals):.2f} %"
            )


def _draw(points: list[Point], target: Target, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for kind, style in (("random", "o"), ("found", "s-")):
        own = sorted((p.measured_ms, p.top1) for p in points if p.kind == kind)
        label = "found within budgets" if kind == "found" else "drawn uniformly"
        axes.plot(*zip(*own, strict=True), style, label=label, alpha=0.8, markersize=5)
    axes.set_xlabel(f"measured latency, ms ({target.summary()})", wrap=True)
    axes.set_ylabel("top-1 of the supernet's weights on test images, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


if __name__ == "__main__":
    main()
