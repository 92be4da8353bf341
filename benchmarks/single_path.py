"""Single-path search: its memory and time, and what it finds beside a search of a supernet.

    python -m benchmarks.single_path --memory [--space NAME] [--batch 64] [--resolution 28]
    python -m benchmarks.single_path TABLE --data FOLDER --budgets 0.10,0.12,0.14 --resolution 20
    python -m benchmarks.single_path TABLE --data FOLDER --resolution 20 --budgets 0.1 --equal-time

Memory is the high-water mark of a process's resident memory (`getrusage`) after some training
steps, less its mark before the network was made; time is CPU time per step, the least of several.
Each network is in a process of its own: the largest subnet, the superkernel network, and a
multi-path network in which every choice of every block is a path of its own, summed by softmax
weights (as in DARTS).

At budgets: networks by single-path search with random weights and with those of the supernet that
comes with lutra, and what a search of that supernet finds: as it is, fine-tuned for as many epochs
as the former were trained in all, and trained alone for as many.

With ``--equal-time``: networks by single-path search with random weights, and what evolution finds,
by measured accuracies, of a supernet that was trained by the sandwich rule for as many CPU seconds
as one of those searches took on average, to the next whole epoch; with the supernet's weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lutra.ops import MBConv, OpConfig
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.predictors.accuracy.loading import load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.find import find_networks
from lutra.search.training.single_path import train_single_path
from lutra.spaces import Rows
from lutra.spaces.mbconv_spaces import EXPANSIONS, FASHION, KERNELS, MBConvSpace
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.trained import augmentation_of
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.supernets.single_path.network import SuperkernelNetwork
from lutra.supernets.subnet import Subnet, initialise
from lutra.supernets.training.train import train_supernet

EVOLUTION = {"population": 16, "generations": 5, "islands": 1}
NETWORKS = ("largest", "superkernel", "multi-path")
WARM_UP = 2


class MultiPathNetwork(nn.Module):
    """Every op that a block may be, side by side; a block that may be left out has a path of none.

    Stages are left by their depths as in the space: a skipped block is the identity.
    """

    def __init__(self, space: MBConvSpace) -> None:
        super().__init__()
        self.ends = nn.ModuleList()
        self.blocks = nn.ModuleList()
        counts = space.choice_counts - 1
        blocks = space.blocks
        rows = np.tile(counts, (len(KERNELS) * len(EXPANSIONS), 1))
        for row, (kernel, expansion) in zip(
            rows, product(range(len(KERNELS)), range(len(EXPANSIONS))), strict=True
        ):
            row[:blocks], row[blocks : 2 * blocks] = kernel, expansion
        slots = space.op_indices(rows.astype(np.int16)).T
        for slot, indices in enumerate(slots):
            ops = [space.ops[index] for index in indices]
            if 2 <= slot < 2 + blocks:
                self.blocks.append(_Paths(ops))
            else:
                self.ends.append(_Single(ops[0]))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.ends[1](self.ends[0](images))
        for block in self.blocks:
            features = block(features)
        for end in self.ends[2:]:
            features = end(features)
        return features


class _Single(nn.Module):
    def __init__(self, op: OpConfig) -> None:
        super().__init__()
        self.op = Subnet(op.graph)
        initialise(self.op)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.op(features)
        return result


class _Paths(nn.Module):
    def __init__(self, ops: list[OpConfig]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_Single(op) for op in ops)
        first = ops[0]
        assert isinstance(first, MBConv)
        self.skips = first.residual
        self.weights = nn.Parameter(torch.zeros(len(ops) + self.skips))

    def forward(self, features: Tensor) -> Tensor:
        weights = self.weights.softmax(0)
        total = sum(
            weight * path(features) for weight, path in zip(weights, self.paths, strict=False)
        )
        if self.skips:
            total = total + weights[-1] * features
        assert isinstance(total, Tensor)
        return total


def network_of(kind: str, space: str) -> nn.Module:
    if kind == "multi-path":
        found = Supernet(space).space
        assert isinstance(found, MBConvSpace)
        return MultiPathNetwork(found)
    supernet = Supernet(space)
    return supernet.subnet() if kind == "largest" else SuperkernelNetwork(supernet)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def step_cost(kind: str, space: str, batch: int, resolution: int, steps: int) -> dict[str, float]:
    """MB above what the process had before, and the CPU seconds of a step."""
    torch.set_num_threads(1)
    channels = Supernet(space).space.ops[0].input_shape.channels
    # What torch takes for itself at a first backward pass is no network's.
    nn.Conv2d(channels, 8, 3)(torch.randn(2, channels, 8, 8)).sum().backward()
    before = peak_mb()
    network = network_of(kind, space).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randn(batch, channels, resolution, resolution)
    images = images.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(WARM_UP + steps):
        started = time.process_time()
        optimizer.zero_grad()
        network(images).logsumexp(1).mean().backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    return {"mb": peak_mb() - before, "seconds": min(seconds[WARM_UP:])}


def report_memory(space: str, batch: int, resolution: int) -> None:
    flags = ["--space", space, "--batch", str(batch), "--resolution", str(resolution)]
    costs = {}
    for kind in NETWORKS:
        command = [sys.executable, "-m", "benchmarks.single_path", "--child", kind, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        costs[kind] = json.loads(done.stdout)
    largest = costs["largest"]
    print(f"{space}, {batch} images of {resolution} pixels a step")
    print(f"{'network':12} {'peak MB':>8} {'ratio':>6} {'CPU s/step':>10} {'ratio':>6}")
    for kind, cost in costs.items():
        print(
            f"{kind:12} {cost['mb']:8.0f} {cost['mb'] / largest['mb']:6.2f}"
            f" {cost['seconds']:10.3f} {cost['seconds'] / largest['seconds']:6.2f}"
        )


def report_budgets(given: argparse.Namespace) -> None:
    """A line per network: predictions, and accuracy on validation and test images."""
    predictor = EfficiencyPredictor(given.table)
    checkpoint = shipped_checkpoint(FASHION)
    assert checkpoint is not None
    supernet = load_supernet(checkpoint)
    accuracy = load_accuracy(given.accuracy, supernet.space)
    augmentation = augmentation_of(read_checkpoint(checkpoint))
    splits = {
        name: load_images(given.data, name, augmentation)
        for name in ("train", "validation", "test")
    }
    epochs = given.epochs + given.fine_tune
    print(
        f"{'budget':>7} {'by':18} {'predicted':>9} {'low':>7} {'high':>7}"
        f" {'valid %':>8} {'test %':>7} {'CPU s':>6}"
    )

    def told(budget_ms: float, by: str, subnet: Subnet, row: np.ndarray, seconds: float) -> None:  # type: ignore[type-arg]
        found = predictor.predict_one(predictor.space.decode(row))
        shown = [
            top1(subnet, splits[name], given.resolution).percent for name in ("validation", "test")
        ]
        print(
            f"{budget_ms:7.4f} {by:18} {found.latency_ms:9.4f} {found.low_ms or 0:7.4f}"
            f" {found.high_ms or 0:7.4f} {shown[0]:8.2f} {shown[1]:7.2f} {seconds:6.0f}",
            flush=True,
        )

    for budget_ms in given.budgets:
        for by, start in (("single-path", None), ("single-path, from", checkpoint)):
            started = time.process_time()
            one = train_single_path(
                given.table,
                given.data,
                max_latency_ms=budget_ms,
                checkpoint=start,
                resolution=given.resolution,
                epochs=given.epochs,
                fine_tune_epochs=given.fine_tune,
                augmentation=augmentation,
                seed=given.seed,
            )
            row = predictor.space.encode(one.result.best.architecture)
            told(budget_ms, by, one.subnet, row, time.process_time() - started)
        # Of the same upper limit, not prediction: both are to keep the budget alike.
        upper = predictor.interval(1.0, given.resolution)[1] or 1.0
        searched = find_networks(
            given.table,
            max_latency_ms=budget_ms / upper,
            accuracy=accuracy,
            resolutions=[given.resolution],
        )
        architecture = searched.best.architecture
        row = predictor.space.encode(architecture)
        subnet = supernet.subnet(architecture)
        tune_statistics(subnet, splits["train"], given.resolution)
        told(budget_ms, searched.algorithm, subnet, row, searched.cpu_seconds)
        started = time.process_time()
        fine_tune(subnet, splits["train"], given.resolution, epochs, seed=given.seed)
        tune_statistics(subnet, splits["train"], given.resolution)
        seconds = time.process_time() - started
        told(budget_ms, f"{searched.algorithm}, fine-tuned", subnet, row, seconds)
        alone = Subnet(supernet.space.graph(architecture))
        initialise(alone, given.seed)
        started = time.process_time()
        fine_tune(
            alone, splits["train"], given.resolution, epochs, learning_rate=0.05, seed=given.seed
        )
        tune_statistics(alone, splits["train"], given.resolution)
        told(budget_ms, f"{searched.algorithm}, alone", alone, row, time.process_time() - started)


class MeasuredAccuracy(AccuracyPredictor):
    """Top-1 with a supernet's weights, measured once for each network."""

    def __init__(self, inherited: InheritedAccuracy, resolution: int) -> None:
        self._inherited = inherited
        self._known: dict[bytes, float] = {}
        self.name, self.space = "measured", inherited.space.name
        self.resolutions = (resolution,)
        self.provenance, self.quality = "measured with a supernet", {}

    def predict(self, rows: Rows) -> Accuracies:
        return np.array([self._of(row) for row in self.canonical(rows)])

    def _of(self, row: np.ndarray) -> float:  # type: ignore[type-arg]
        key = row.tobytes()
        if key not in self._known:
            self._known[key] = self._inherited.of(self._inherited.space.decode(row)).percent
        return self._known[key]


def supernet_of(seconds: float, given: argparse.Namespace, folder: Path) -> tuple[Path, float]:
    """A supernet trained for so many CPU seconds at least, and for how many.

    What an epoch takes is told by trainings of one and of two: what else they do is the same.
    """

    def trained(epochs: int) -> tuple[Path, float]:
        started = time.process_time()
        done = train_supernet(
            given.space, given.data, folder / str(epochs), method="sandwich", epochs=epochs,
            batch=64, augmentation="none", seed=given.seed, save_seconds=float("inf"),
        )  # fmt: skip
        return done.path, time.process_time() - started

    short = [trained(epochs) for epochs in (1, 2)]
    once, twice = (each for _, each in short)
    epochs = max(1, 1 + ceil((seconds - once) / (twice - once)))
    return short[epochs - 1] if epochs <= len(short) else trained(epochs)


def report_equal_time(given: argparse.Namespace) -> None:
    """A line per network: its prediction, its accuracy on test images, what its making took."""
    predictor = EfficiencyPredictor(given.table)
    train, test = (load_images(given.data, name, "none") for name in ("train", "test"))
    print(f"{'budget':>7} {'by':12} {'predicted':>9} {'test %':>7} {'CPU s':>6}")

    def told(budget_ms: float, by: str, subnet: Subnet, ms: float, seconds: float) -> None:
        percent = top1(subnet, test, given.resolution).percent
        print(f"{budget_ms:7.4f} {by:12} {ms:9.4f} {percent:7.2f} {seconds:6.0f}", flush=True)

    taken = []
    for budget_ms in given.budgets:
        started = time.process_time()
        one = train_single_path(
            given.table,
            given.data,
            max_latency_ms=budget_ms,
            resolution=given.resolution,
            epochs=given.epochs,
            fine_tune_epochs=given.fine_tune,
            augmentation="none",
            seed=given.seed,
        )
        taken.append(time.process_time() - started)
        told(budget_ms, "single-path", one.subnet, one.result.best.predicted_ms, taken[-1])
    with tempfile.TemporaryDirectory() as folder:
        path, seconds = supernet_of(float(np.mean(taken)), given, Path(folder))
        print(f"a supernet was trained for {seconds:.0f} CPU s", flush=True)
        supernet, inherited = load_supernet(path), InheritedAccuracy.read(path, given.data)
    accuracy = MeasuredAccuracy(inherited, given.resolution)
    upper = predictor.interval(1.0, given.resolution)[1] or 1.0
    for budget_ms in given.budgets:
        found = find_networks(
            given.table,
            max_latency_ms=budget_ms / upper,
            accuracy=accuracy,
            resolutions=[given.resolution],
            algorithm="evolution",
            hyperparameters=EVOLUTION,
            seed=given.seed,
        )
        subnet = supernet.subnet(found.best.architecture)
        tune_statistics(subnet, train, given.resolution)
        told(budget_ms, "evolution", subnet, found.best.predicted_ms, found.cpu_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--space", default=FASHION)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=28)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--equal-time", action="store_true")
    parser.add_argument("--accuracy", help="of load_accuracy; by default the space's")
    parser.add_argument(
        "--budgets", type=lambda text: [float(part) for part in text.split(",")], default=[]
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--fine-tune", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.child is not None:
        cost = step_cost(given.child, given.space, given.batch, given.resolution, steps=10)
        print(json.dumps(cost))
    elif given.memory:
        report_memory(given.space, given.batch, given.resolution)
    elif given.equal_time:
        report_equal_time(given)
    else:
        report_budgets(given)


if __name__ == "__main__":
    main()
