"""What pruning by a table gains over uniform pruning and over MACs, at equal latency.

The budget is a share of the network's own predicted latency. Widths are chosen by the table with
sensitivity curves; by the same share everywhere; by MACs with the same curves, their limit as high
as the latency allows. All, and the network itself, are fine-tuned alike.

    lutra prune sense NETWORK.json --checkpoint CHECKPOINT --data FOLDER -o CURVES
    lutra profile cpu --space SPACE --resolutions R --sample 60s -o TABLE
    python -m benchmarks.pruning TABLE CURVES CHECKPOINT --data FOLDER
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lutra.predictors.accuracy.loading import load_accuracy
from lutra.predictors.efficiency.costs import macs_cost
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.find import find_networks
from lutra.spaces import Rows, SearchSpace
from lutra.supernets.accuracy.kept_images import KeptImages
from lutra.supernets.checkpoints.checkpoint import read_checkpoint
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.data.base import ImageSet, shuffled
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.trained import augmentation_of
from lutra.supernets.evaluation import top1, tune_statistics

_SHARES = np.linspace(1.0, 0.2, 161)
_HALVINGS = 16


class Images(NamedTuple):
    """What networks are fine-tuned and judged on."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def main() -> None:
    """Print a line per choice of widths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("curves", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.6, help="of the network's latency")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, help="of each part, at most")
    parser.add_argument("--seeds", type=int, default=1, help="of fine-tuning; means are printed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    predictor = EfficiencyPredictor(given.table)
    space = predictor.space
    full = (space.choice_counts - 1)[None]
    budget_ms = given.share * float(predictor.predict(full)[0])
    by_table = find_networks(given.table, max_latency_ms=budget_ms, accuracy=given.curves)
    chosen = {
        "full width": full[0],
        "table": space.encode(by_table.best.architecture),
        "uniform": uniform(predictor, budget_ms),
        "MACs": by_macs(given.table, given.curves, predictor, budget_ms),
    }
    rows = np.array([*chosen.values()], dtype=np.int16)
    columns = zip(
        chosen,
        rows,
        predictor.predict(rows),
        macs_cost(space).of(rows) / 1e6,
        load_accuracy(given.curves, space).predict(rows),
        strict=True,
    )
    augmentation = augmentation_of(read_checkpoint(given.checkpoint))
    images = Images(
        _some(load_images(given.data, "train", augmentation), given.images),
        _some(load_images(given.data, "validation"), given.images),
        _some(load_images(given.data, "test"), given.images),
    )
    print(f"budget {budget_ms:.3f} ms; {len(images.train)} training images, {given.epochs} epochs")
    print("              predicted          expected  validation, %       test, %")
    print("widths by            ms   MMACs         %   before    tuned   tuned     CPU s")
    for name, row, latency_ms, mmacs, expected in columns:
        before = time.process_time()
        found = [_accuracies(space, row, given, images, seed) for seed in range(given.seeds)]
        pruned, tuned, tested = np.mean(found, axis=0)
        print(
            f"{name:12} {latency_ms:10.3f} {mmacs:7.2f} {expected:9.2f} {pruned:8.2f} {tuned:8.2f}"
            f" {tested:7.2f} {time.process_time() - before:9.0f}",
            flush=True,
        )


def uniform(predictor: EfficiencyPredictor, budget_ms: float) -> Rows:
    """(genes,): the largest share of all channels, everywhere alike, that keeps the budget.

    No block is left out.
    """
    space = predictor.space
    rows = np.zeros((len(_SHARES), len(space.genes)), dtype=np.int16)
    for column, gene in enumerate(space.genes):
        kept = np.array(gene.choices)[None] <= _SHARES[:, None] * gene.choices[-1]
        rows[:, column] = np.maximum(kept.sum(axis=1) - 1, int(gene.choices[0] == 0))
    rows[:, -1] = space.choice_counts[-1] - 1
    rows = space.canonical(rows)
    first = int(np.flatnonzero(predictor.predict(rows) <= budget_ms)[0])
    chosen: Rows = rows[first]
    return chosen


def by_macs(table: Path, curves: Path, predictor: EfficiencyPredictor, budget_ms: float) -> Rows:
    """(genes,): the best by curves under a limit of MACs, the highest that keeps the latency."""
    space = predictor.space
    macs = macs_cost(space)
    low, _ = macs.cheapest(space.resolutions)
    high, _ = macs.dearest(space.resolutions)
    best = None
    for _ in range(_HALVINGS):
        limit = (low + high) / 2
        found = find_networks(table, max_macs=limit, accuracy=curves).best
        if found.predicted_ms <= budget_ms:
            low, best = limit, found
        else:
            high = limit
    assert best is not None
    return space.encode(best.architecture)


def _some(images: ImageSet, count: int | None) -> ImageSet:
    return KeptImages(images, np.sort(shuffled(len(images))[:count]))


def _accuracies(
    space: SearchSpace, row: Rows, given: argparse.Namespace, images: Images, seed: int
) -> tuple[float, float, float]:
    """Top-1 in percent: on validation images before and after fine-tuning, on test images."""
    architecture = space.decode(row)
    _, subnet = load_network(given.checkpoint, architecture)
    tune_statistics(subnet, images.train, architecture.r)
    before = top1(subnet, images.validation, architecture.r).percent
    fine_tune(subnet, images.train, architecture.r, given.epochs, seed=seed)
    tune_statistics(subnet, images.train, architecture.r)
    after = top1(subnet, images.validation, architecture.r).percent
    return before, after, top1(subnet, images.test, architecture.r).percent


if __name__ == "__main__":
    main()
