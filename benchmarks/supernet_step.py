"""A training step of a supernet against that of its networks trained alone, same batch.

    python benchmarks/supernet_step.py [--space NAME] [--batch 32] [--rounds 5]

Prints the CPU time of forward and backward passes, the smallest of several rounds that take turns,
and what the supernet's is of the static network's. Extraction's wall time is printed too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.spaces.architecture import Architecture
from lutra.supernets.elastic.supernet import Supernet

SPACES = {
    "ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:28:4": 64,
    "ofa-mbv3-w1.0": 8,
    "ofa-resnet50d": 4,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", choices=SPACES, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sys.stdout.write(
        "| space | network | r | batch | static ms | elastic ms | ratio | extraction ms |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    for space in arguments.space or SPACES:
        report(space, SPACES[space], arguments.rounds)


def report(space: str, batch: int, rounds: int) -> None:
    supernet = Supernet(space).train()
    row = supernet.space.sample(1, np.random.default_rng(0))[0]
    networks = {
        "largest": supernet.largest(),
        "smallest": supernet.smallest(),
        "random": supernet.space.decode(row),
    }
    for name, architecture in networks.items():
        started = time.perf_counter()
        static = supernet.subnet(architecture)
        extraction_ms = (time.perf_counter() - started) * 1e3
        images, labels = data(supernet, architecture, batch)
        elastic_ms, static_ms = fastest(
            rounds,
            partial(step, supernet, partial(supernet, images, architecture), labels),
            partial(step, static, partial(static, images), labels),
        )
        sys.stdout.write(
            f"| {space} | {name} | {architecture.r} | {batch} | {static_ms:.1f} |"
            f" {elastic_ms:.1f} | {elastic_ms / static_ms:.2f} | {extraction_ms:.0f} |\n"
        )


def data(supernet: Supernet, architecture: Architecture, batch: int) -> tuple[Tensor, Tensor]:
    ops = supernet.space.ops_of(architecture)
    channels, classes = ops[0].input_shape.channels, ops[-1].output_shape.channels
    images = torch.randn(batch, channels, architecture.r, architecture.r)
    images = images.to(memory_format=torch.channels_last)
    return images, torch.randint(0, classes, (batch,))


def step(network: nn.Module, forward: Callable[[], Tensor], labels: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    functional.cross_entropy(forward(), labels).backward()  # type: ignore[no-untyped-call]


def fastest(rounds: int, *steps: Callable[[], None]) -> list[float]:
    """The least CPU milliseconds of each step; they take turns."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 1):
        for run, times in zip(steps, taken, strict=True):
            started = time.process_time()
            run()
            times.append((time.process_time() - started) * 1e3)
    return [min(times[1:]) for times in taken]


if __name__ == "__main__":
    main()
