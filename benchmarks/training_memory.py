"""What a supernet's training step takes of memory and time, by what spares memory.

    python benchmarks/training_memory.py [--space NAME] [--batch 32] [--resolution 128] [--steps 3]

Each setting trains the largest network in a process of its own. Prints the most memory that the
process held beyond what it held before there was a supernet, by the kernel's count, and the CPU
seconds of the quickest step after the first.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import psutil
import torch
from torch.nn import functional

from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.training.losses import Batch, Passes
from lutra.supernets.training.optimization import casting_of, optimizer_of, set_rate

PLAIN = {"recompute": False, "precision": "fp32", "accumulate": 1}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"recompute": True},
    {"precision": "bf16"},
    {"accumulate": 2},
    {"accumulate": 4},
    {"recompute": True, "precision": "bf16"},
    {"recompute": True, "accumulate": 4},
    {"precision": "bf16", "accumulate": 4},
    {"recompute": True, "precision": "bf16", "accumulate": 4},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="ofa-mbv3-w1.0/classes=10")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--setting", type=json.loads, help="Print that of one setting, as JSON.")
    arguments = parser.parse_args()
    if arguments.setting is not None:
        taken = step_of(arguments, **{**PLAIN, **arguments.setting})
        sys.stdout.write(json.dumps(taken))
        return
    sys.stdout.write(
        "| setting | peak MiB | of plain | CPU s a step | of plain |\n|---|---|---|---|---|\n"
    )
    plain: tuple[float, float] | None = None
    for setting in SETTINGS:
        command = [sys.executable, *sys.argv, "--setting", json.dumps(setting)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        mebibytes, seconds = json.loads(done.stdout)
        plain = plain or (mebibytes, seconds)
        sys.stdout.write(
            f"| {named(setting)} | {mebibytes:.0f} | {mebibytes / plain[0]:.2f} |"
            f" {seconds:.2f} | {seconds / plain[1]:.2f} |\n"
        )
        sys.stdout.flush()


def named(setting: dict[str, Any]) -> str:
    """As it is asked for."""
    words = [
        f"--{name}" if value is True else f"--{name} {value}" for name, value in setting.items()
    ]
    return f"`{' '.join(words)}`" if words else "plain"


def step_of(
    arguments: argparse.Namespace, *, recompute: bool, precision: str, accumulate: int
) -> tuple[float, float]:
    """The most MiB that training takes of this process, and the least CPU seconds of a step."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    with casting_of(precision, cpu)():
        torch.ones(2, 2) @ torch.ones(2, 2)  # what is loaded once
    before = psutil.Process().memory_info().rss
    supernet = Supernet(arguments.space, recompute=recompute).train()
    passes, optimizer = Passes(supernet, casting_of(precision, cpu)), optimizer_of(supernet)
    set_rate(optimizer, 0.01)
    size = (arguments.batch, 3, arguments.resolution, arguments.resolution)
    batch = Batch(torch.randn(size), torch.arange(arguments.batch) % 10)
    taken = []
    for _ in range(arguments.steps):
        started = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        for part in batch.parts(accumulate):
            logits = passes.logits(part, supernet.largest())
            loss = functional.cross_entropy(logits, part.labels) / accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            del logits, loss
        optimizer.step()
        taken.append(time.process_time() - started)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / 2**20, min(taken[1:])


if __name__ == "__main__":
    main()
