"""Why ops alone do not add up to their network: stacks of the same op, one upon the other.

    python -m benchmarks.parts_and_whole [--runtime NAME] [--precision NAME] [--plot FILE.svg]

Each op whose output is as its input is stacked 1, 2, 4, 8 and 16 times, with weights of its own in
each place, and all stacks are visited in the same 18 shuffled rounds, in three processes. What two
have over one says what starting and the borders of a model cost; what further ones add tells what
an op costs whose weights were used a while ago. Printed beside: the megabytes of weights in the
stack, and what the last half of it pays for each megabyte more than an op in a stack of two.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.plots import save
from lutra.devices.base import RuntimeConfig
from lutra.devices.registry import opened_device
from lutra.ops.config import OpConfig, chain_graph, parse_key
from lutra.profiler.bench import open_bench
from lutra.profiler.protocols import OP_PROTOCOL
from lutra.profiler.workload import Workload
from lutra.tables import LatencyTable

HEIGHTS = (1, 2, 4, 8, 16)
HEAVY_BYTES, MOST_WEIGHT_BYTES = 0.5e6, 40e6
OPS = tuple(
    parse_key(key)
    for key in (
        "mbconv/112x112x16-112x112x16/mid=16/k=3/s=1/act=relu/se=0/res=1",
        "mbconv/56x56x24-56x56x24/mid=96/k=5/s=1/act=relu/se=0/res=1",
        "mbconv/28x28x40-28x28x40/mid=160/k=5/s=1/act=relu/se=1/res=1",
        "mbconv/14x14x80-14x14x80/mid=320/k=5/s=1/act=h_swish/se=0/res=1",
        "mbconv/14x14x112-14x14x112/mid=336/k=3/s=1/act=h_swish/se=1/res=1",
        "mbconv/14x14x112-14x14x112/mid=672/k=5/s=1/act=h_swish/se=1/res=1",
        "mbconv/7x7x160-7x7x160/mid=480/k=3/s=1/act=h_swish/se=1/res=1",
        "mbconv/7x7x160-7x7x160/mid=960/k=5/s=1/act=h_swish/se=1/res=1",
        "mbconv/4x4x160-4x4x160/mid=640/k=5/s=1/act=h_swish/se=1/res=1",
    )
)


@dataclass(frozen=True)
class Stack:
    """An op upon itself, ``height`` times; ``latency_ms`` of the whole."""

    op: OpConfig
    height: int
    latency_ms: float

    @property
    def weight_mb(self) -> float:
        return self.height * self.op.weight_bytes / 1e6


def measured(runtime: str, precision: str) -> dict[tuple[OpConfig, int], Stack]:
    stacks = {
        (op, height): f"{op.key} * {height}"
        for op in OPS
        for height in HEIGHTS
        if height * op.weight_bytes <= MOST_WEIGHT_BYTES
    }
    config = RuntimeConfig(runtime)
    with (
        TemporaryDirectory() as folder,
        opened_device("cpu") as device,
        open_bench(device, config, precision) as bench,
        LatencyTable.create(Path(folder) / "stacks.lut", bench.target) as table,
    ):
        workloads = [
            Workload("op", key, bench.emission.builder(partial(chain_graph, [op] * height)))
            for (op, height), key in stacks.items()
        ]
        bench.measure(table, workloads, OP_PROTOCOL)
        found = table.op_latencies()
    return {(op, height): Stack(op, height, found[key]) for (op, height), key in stacks.items()}


def added_ms(stacks: dict[tuple[OpConfig, int], Stack], op: OpConfig, height: int) -> float:
    """What each op in the last half of a stack adds; of one, what it takes."""
    if height == 1:
        return stacks[op, 1].latency_ms
    half = height // 2
    return (stacks[op, height].latency_ms - stacks[op, half].latency_ms) / half


def report(stacks: dict[tuple[OpConfig, int], Stack]) -> None:
    print(f"{'op':72}{'stack':>6}{'MB':>7}{'ms':>8}{'each / alone':>14}{'us per MB':>11}")
    for (op, height), stack in stacks.items():
        each_ms = added_ms(stacks, op, height)
        price = ""
        if height > 2 and op.weight_bytes > HEAVY_BYTES:
            extra_ms = each_ms - added_ms(stacks, op, 2)
            price = f"{1e3 * extra_ms / (op.weight_bytes / 1e6):.0f}"
        print(
            f"{op.key:72}{height:6}{stack.weight_mb:7.1f}{stack.latency_ms:8.3f}"
            f"{each_ms / stacks[op, 1].latency_ms:14.3f}{price:>11}"
        )


def plot(stacks: dict[tuple[OpConfig, int], Stack], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for op in OPS:
        own = [stack for (stacked, height), stack in stacks.items() if stacked == op]
        ratios = [added_ms(stacks, op, item.height) / own[0].latency_ms for item in own]
        label = f"{op.input_shape}, {op.weight_bytes / 1e6:.2g} MB each"
        axes.plot([item.weight_mb for item in own], ratios, "o-", label=label)
    axes.axhline(1.0, color="#888888", linewidth=0.8)
    axes.set(
        xscale="log",
        xlabel="weights in the stack, MB",
        ylabel="an op in the last half, to one alone",
    )
    axes.legend(fontsize=7)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    stacks = measured(arguments.runtime, arguments.precision)
    report(stacks)
    if arguments.plot:
        plot(stacks, arguments.plot)


if __name__ == "__main__":
    main()
