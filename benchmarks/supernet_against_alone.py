"""What weight sharing costs: subnets with a supernet's weights against the same networks alone.

Each network is trained from scratch on the same images, for as many epochs as the supernet, at its
learning rate, batch and augmentation, which the checkpoint says; both are then evaluated on the
test images, batch-norm statistics re-estimated on as many training images.

    python -m benchmarks.supernet_against_alone CHECKPOINT --data FOLDER --random 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lutra.spaces import Architecture
from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint
from lutra.supernets.data.base import ImageSet
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.elastic.names import layout_of
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.supernets.subnet import Subnet, initialise

DROPOUT = 0.1  # as the supernet's


def main() -> None:
    """Print a line per network, then the differences' summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    checkpoint = read_checkpoint(given.checkpoint)
    supernet, about = load_supernet(checkpoint), checkpoint.about
    train = load_images(given.data, "train", about["augmentation"])
    test = load_images(given.data, "test")
    differences = []
    print(f"{'network':10} {'MMACs':>6} {'inherited %':>11} {'alone %':>8} {'+-':>6} {'s':>6}")
    for name, architecture in _networks(supernet, given.random, given.seed):
        begun = time.perf_counter()
        inherited = _accuracy(supernet.subnet(architecture), architecture, train, test)
        alone = _untrained(supernet, architecture, given.seed)
        fine_tune(
            alone,
            train,
            architecture.r,
            about["epochs"],
            learning_rate=about["learning_rate"],
            batch=about["batch"],
            seed=given.seed,
        )
        separate = _accuracy(alone, architecture, train, test)
        differences.append(inherited - separate)
        macs = supernet.space.graph(architecture).macs / 1e6
        seconds = time.perf_counter() - begun
        print(
            f"{name:10} {macs:6.2f} {inherited:11.2f} {separate:8.2f} {differences[-1]:+6.2f}"
            f" {seconds:6.0f}",
            flush=True,
        )
    print(
        f"inherited minus alone: mean {np.mean(differences):+.2f},"
        f" least {min(differences):+.2f}, greatest {max(differences):+.2f} points;"
        f" {sum(abs(value) <= 1 for value in differences)} of {len(differences)} within 1 point"
    )


def _networks(supernet: Supernet, count: int, seed: int) -> Iterator[tuple[str, Architecture]]:
    yield "smallest", supernet.smallest()
    yield "largest", supernet.largest()
    for number, row in enumerate(supernet.space.sample(count, np.random.default_rng(seed)), 1):
        yield f"random {number}", supernet.space.decode(row)


def _untrained(supernet: Supernet, architecture: Architecture, seed: int) -> Subnet:
    space = supernet.space
    graph, epsilon = space.graph(architecture), layout_of(space).norm_epsilon
    subnet = Subnet(graph, norm_epsilon=epsilon, dropout=DROPOUT)
    initialise(subnet, seed)
    return subnet


def _accuracy(subnet: Subnet, architecture: Architecture, train: ImageSet, test: ImageSet) -> float:
    tune_statistics(subnet, train, architecture.r)
    return top1(subnet, test, architecture.r).percent


if __name__ == "__main__":
    main()
