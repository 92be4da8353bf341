"""What teachers add to fine-tuning: soft labels, FSP matrices and both against labels alone.

Subnets of a supernet are trained further on a part of the training images, once for each seed,
which draws the images and their order, the same for each loss; the largest network teaches, on the
same images. Accuracy is top-1 on the validation images; beside each mean is its difference from
labels alone and the standard error of that, over seeds.

    python -m benchmarks.distillation --data FOLDER --epochs 2
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from lutra.spaces import Architecture
from lutra.supernets.accuracy.kept_images import KeptImages
from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.data.base import ImageSet, shuffled
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import LEARNING_RATE, Loss, fine_tune, label_loss
from lutra.supernets.deployment.trained import augmentation_of
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.supernets.training.distillation import (
    FSP_WEIGHT,
    SOFT_WEIGHT,
    TEMPERATURE,
    Distillation,
)

PLAIN = "labels"


def main() -> None:
    """Print a row per network and loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=shipped_checkpoint("ofa-mbv3-fashion"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", type=int, default=1, help="networks beside the smallest")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE)
    parser.add_argument("--soft-weight", type=float, default=SOFT_WEIGHT)
    parser.add_argument("--fsp-weight", type=float, default=FSP_WEIGHT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = read_checkpoint(given.checkpoint)
    supernet = load_supernet(checkpoint)
    train = load_images(given.data, "train", augmentation_of(checkpoint))
    validation = load_images(given.data, "validation")
    networks = {"smallest": supernet.smallest()}
    for number, row in enumerate(supernet.space.sample(given.random, np.random.default_rng(0)), 1):
        networks[f"random {number}"] = supernet.space.decode(row)
    print(f"{'network':10} {'loss':12} {'top-1 %':>8} {'to labels':>10} {'error':>6} {'CPU s':>6}")
    for name, architecture in networks.items():
        teacher = supernet.subnet()
        tune_statistics(teacher, train, architecture.r)
        student = supernet.subnet(architecture)
        tune_statistics(student, train, architecture.r)
        for what, network in (("teacher", teacher), ("before", student)):
            percent = top1(network, validation, architecture.r).percent
            print(f"{name:10} {what:12} {percent:8.2f}", flush=True)
        graph, taught_by = student.graph, {"largest": teacher}
        soft, share = {"temperature": given.temperature}, given.soft_weight
        losses: dict[str, Loss] = {
            PLAIN: label_loss,
            "soft labels": Distillation(graph, taught_by, soft_weight=share, **soft),
            "FSP": Distillation(graph, taught_by, soft_weight=0.0, fsp_weight=given.fsp_weight),
            "both": Distillation(
                graph, taught_by, soft_weight=share, fsp_weight=given.fsp_weight, **soft
            ),
        }
        _compare(name, supernet, architecture, losses, train, validation, given)


def _compare(
    name: str,
    supernet: Supernet,
    architecture: Architecture,
    losses: Mapping[str, Loss],
    train: ImageSet,
    validation: ImageSet,
    given: argparse.Namespace,
) -> None:
    plain: list[float] = []
    for which, loss in losses.items():
        begun = time.process_time()
        found = [
            _tuned(supernet, architecture, loss, train, validation, seed, given)
            for seed in range(given.seeds)
        ]
        seconds = (time.process_time() - begun) / given.seeds
        if which == PLAIN:
            plain = found
        differences = np.subtract(found, plain)
        error = differences.std(ddof=1) / math.sqrt(len(differences)) if given.seeds > 1 else 0.0
        print(
            f"{name:10} {which:12} {np.mean(found):8.2f} {differences.mean():+10.2f} {error:6.2f}"
            f" {seconds:6.0f}   {' '.join(f'{value:.2f}' for value in found)}",
            flush=True,
        )


def _tuned(
    supernet: Supernet,
    architecture: Architecture,
    loss: Loss,
    train: ImageSet,
    validation: ImageSet,
    seed: int,
    given: argparse.Namespace,
) -> float:
    """Top-1 in percent after fine-tuning on this seed's images."""
    network = supernet.subnet(architecture)
    part = KeptImages(train, shuffled(len(train), seed)[: given.images])
    fine_tune(
        network,
        part,
        architecture.r,
        given.epochs,
        learning_rate=given.learning_rate,
        seed=seed,
        loss=loss,
    )
    tune_statistics(network, train, architecture.r)
    return top1(network, validation, architecture.r).percent


if __name__ == "__main__":
    main()
