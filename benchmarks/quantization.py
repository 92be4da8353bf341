"""Ranges by rule and trained, on the supernet that comes with lutra: top-1 in fp32 and int8.

    python benchmarks/quantization.py [--data FOLDER] [--epochs 1] [--learning-rate 0.005]
                                      [--limit N] [--network smallest|middle] [--format tflite|onnx]

Prints a table for each network and format: top-1 on validation images, bytes, and for the trained
ranges how long training took of the CPU. Beneath it, which share of outputs of the simulation is
within a step of the runtime's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lutra.emitters.quantization import grid
from lutra.spaces import Architecture, get_space
from lutra.supernets.checkpoints.checkpoint import read_checkpoint
from lutra.supernets.checkpoints.network import load_network, trained_ranges
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.runners import open_model
from lutra.supernets.quantization.comparison import compared
from lutra.supernets.quantization.quantize import FORMATS, quantize
from lutra.supernets.quantization.simulated import SimulatedInt8

SPACE = "ofa-mbv3-fashion"
NETWORKS = ("smallest", "middle")
SHOWN = 1000  # images that agreement is over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--format", choices=FORMATS, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.network or NETWORKS:
        for format in arguments.format or FORMATS:
            with tempfile.TemporaryDirectory() as folder:
                report(name, format, Path(folder), arguments)


def network_named(name: str) -> Architecture:
    space = get_space(SPACE)
    share = 0.0 if name == "smallest" else 0.5
    row = np.floor(share * (space.choice_counts - 1)).astype(np.int16)
    return space.decode(space.canonical(row[None])[0])


def report(name: str, format: str, folder: Path, arguments: argparse.Namespace) -> None:
    checkpoint = shipped_checkpoint(SPACE)
    assert checkpoint is not None
    architecture = network_named(name)
    path, kept = folder / f"trained.{format}", folder / "network.pth"
    started = time.process_time()
    quantize(
        path,
        checkpoint,
        arguments.data,
        architecture,
        ranges="trained",
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        network=kept,
    )
    seconds = time.process_time() - started
    rows = compared(path, checkpoint, arguments.data, architecture, limit=arguments.limit)
    sys.stdout.write(f"\n{name}, {format}: trained in {seconds:.0f} s of the CPU\n")
    sys.stdout.write("| ranges | top-1 % | bytes |\n|---|---|---|\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row.cells())} |\n")
    share = agreement(path, kept, arguments.data)
    sys.stdout.write(f"simulated and run: {100 * share:.2f} % of outputs within a step\n")
    sys.stdout.flush()


def agreement(path: Path, kept: Path, data: str) -> float:
    architecture, network = load_network(kept)
    ranges = trained_ranges(read_checkpoint(kept), network.graph)
    assert ranges is not None
    simulated = SimulatedInt8(network, ranges.format, ranges.maps).eval()
    images, _ = load_images(data, "validation").batch(np.arange(SHOWN), architecture.r)
    with torch.inference_mode():
        expected = simulated(images)
    values = ranges.maps[network.graph.output]
    step = grid(values, simulated.plan.lowest, simulated.plan.highest).scale
    near = (expected - open_model(path)(images)).abs() <= 1.01 * step
    return float(near.float().mean())


if __name__ == "__main__":
    main()
