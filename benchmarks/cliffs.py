"""What latency tables see and FLOPs do not: read from tables of one space at one resolution.

    python benchmarks/cliffs.py RUNTIME-PRECISION.lut ...

Each table is one ``lutra profile cpu --runtime R --precision P -o ...``. Prints the cost of larger
depthwise kernels, of h-swish, of operators outside the delegate, and runtime against runtime, as
ratios within a table or between two. With two or more tables it also says how well MACs rank ops.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from lutra.ops import MBConv, OpConfig, parse_key
from lutra.tables import LatencyTable

KERNEL_PAIRS = ((3, 5), (5, 7))


class Table:
    """A table's ops by key, in ms, and what it speaks of."""

    def __init__(self, path: Path) -> None:
        with LatencyTable.open(path) as table:
            self.latency_ms = table.op_latencies()
            self.nodes = {row.key: row.nodes for row in table.rows("op")}
            target = table.target
        runtime = f"{target.runtime} {target.runtime_version}"
        self.name = f"{runtime} {target.precision} {target.options}".strip()
        self.ops = {key: parse_key(key) for key in self.latency_ms}


def blocks(table: Table, kernel: int) -> dict[tuple[object, ...], MBConv]:
    """MBConv blocks of one kernel size, by everything but the kernel."""
    return {
        (op.input_shape, op.out_channels, op.mid_channels, op.stride): op
        for op in table.ops.values()
        if isinstance(op, MBConv) and op.kernel == kernel
    }


def kernel_growth(table: Table, small: int, large: int) -> list[tuple[float, float, MBConv]]:
    """(latency ratio, MACs ratio, the larger block) of blocks that differ in the kernel only."""
    less, more = blocks(table, small), blocks(table, large)
    return [
        (
            table.latency_ms[more[key].key] / table.latency_ms[less[key].key],
            more[key].macs / less[key].macs,
            more[key],
        )
        for key in less.keys() & more.keys()
    ]


def print_kernels(tables: list[Table]) -> None:
    print("\nblock latency when only the depthwise kernel grows (median and worst; MACs: median)")
    for small, large in KERNEL_PAIRS:
        for table in tables:
            growth = kernel_growth(table, small, large)
            worst = max(growth, key=lambda item: item[0])
            print(
                f"  k{small} -> k{large}  {table.name:28}"
                f"  latency x{statistics.median(item[0] for item in growth):5.2f}"
                f"  worst x{worst[0]:5.2f} ({worst[2].key})"
                f"  MACs x{statistics.median(item[1] for item in growth):4.2f}"
            )


def print_delegates(tables: list[Table]) -> None:
    print("\nnanoseconds per kMAC of MBConv blocks, by what the delegate took of them (median)")
    for table in tables:
        groups: dict[str, list[float]] = {}
        for key, op in table.ops.items():
            if isinstance(op, MBConv):
                label = f"{op.activation}{', SE' if op.se else ''}"
                groups.setdefault(label, []).append(1e9 * table.latency_ms[key] / op.macs)
        for label, values in sorted(groups.items()):
            print(f"  {table.name:28} {label:12} {statistics.median(values):7.1f}", end="")
            print(f"   outside the delegate: {outside(table, label)}")


def outside(table: Table, label: str) -> str:
    """How many nodes of such blocks no delegate took."""
    left = {
        nodes[0] - nodes[1]
        for key, op in table.ops.items()
        if isinstance(op, MBConv)
        and f"{op.activation}{', SE' if op.se else ''}" == label
        and (nodes := table.nodes[key]) is not None
    }
    return "/".join(map(str, sorted(left))) if left else "-"


def print_runtimes(tables: list[Table]) -> None:
    print(
        "\nall ops at once: sum over the table, and each against the first (10th..90th percentile)"
    )
    first = tables[0]
    for table in tables:
        keys = sorted(first.latency_ms.keys() & table.latency_ms.keys())
        ratios = [table.latency_ms[key] / first.latency_ms[key] for key in keys]
        low, high = np.quantile(ratios, [0.1, 0.9])
        total = sum(table.latency_ms[key] for key in keys)
        print(
            f"  {table.name:28} {total:8.1f} ms  x{statistics.median(ratios):5.2f}"
            f" ({low:.2f}..{high:.2f})  Kendall tau with MACs {tau_with_macs(table):.2f}"
        )


def tau_with_macs(table: Table) -> float:
    ops: list[OpConfig] = list(table.ops.values())
    measured = [table.latency_ms[op.key] for op in ops]
    return float(kendalltau([op.macs for op in ops], measured).statistic)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    tables = [Table(Path(argument)) for argument in sys.argv[1:]]
    print_kernels(tables)
    print_delegates(tables)
    print_runtimes(tables)


if __name__ == "__main__":
    main()
