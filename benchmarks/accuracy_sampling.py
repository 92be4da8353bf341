"""Sampling subnets' accuracy, against nothing but the forward passes that it takes.

    python benchmarks/accuracy_sampling.py CHECKPOINT DATA [--count 100]

For each subnet by turns: what `lutra accuracy sample` does (extract it, re-estimate its batch
normalisations, evaluate it, write the line), and forward passes of the same subnet, extracted
before, over as many images that lie ready, in inference mode. The ratio of the two speeds is of the
processor's time, and of the clock's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lutra.predictors.accuracy.samples import sample_writer
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.accuracy.sampling import architectures
from lutra.supernets.evaluation import batch_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--images", type=int, help="validation images; by default all")
    parser.add_argument("--calibration-images", type=int, default=2000)
    arguments = parser.parse_args()
    accuracy = InheritedAccuracy.read(
        arguments.checkpoint,
        arguments.data,
        images=arguments.images,
        calibration_images=arguments.calibration_images,
    )
    images = accuracy.source.images + accuracy.source.calibration_images
    totals = {"sampling": [0.0, 0.0], "forward passes": [0.0, 0.0]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.jsonl"
        with sample_writer(path, accuracy.source) as writer:
            for row in architectures(accuracy.space, arguments.count):
                architecture = accuracy.space.decode(row)
                subnet = accuracy.networks.subnet(architecture).eval()
                shape = subnet.graph.input_shape
                ready = torch.randn(images, shape.channels, shape.height, shape.width)
                with timed(totals["forward passes"]), torch.inference_mode():
                    for batch in torch.split(ready, batch_of(architecture.r)):
                        subnet(batch)
                with timed(totals["sampling"]):
                    writer.add(row, accuracy.of(architecture).percent)
    for name, (wall, cpu) in totals.items():
        speed = arguments.count * images / cpu
        print(f"{name:16} {wall:8.1f} s {cpu:8.1f} CPU s {speed:8.0f} images per CPU s")
    (wall, cpu), (bare_wall, bare_cpu) = totals["sampling"], totals["forward passes"]
    print(
        f"sampling runs at {100 * bare_cpu / cpu:.0f} % ({100 * bare_wall / wall:.0f} % by clock)"
    )


@contextmanager
def timed(total: list[float]) -> Iterator[None]:
    """Add what a block takes, by clock and by processor, to a total."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    total[0] += time.perf_counter() - wall
    total[1] += time.process_time() - cpu


if __name__ == "__main__":
    main()
