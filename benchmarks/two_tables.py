"""Whether two tables of one machine agree, the second made under bursts of another process's load.

    python -m benchmarks.two_tables [--resolutions 224] [--runtime onnxruntime] [--first TABLE]

Profiles OFA-MobileNetV3 twice on this machine's CPU, or once beside a table of an hour ago, of the
same resolutions and runtime. During the second, processes pinned to each
core come and go: busy for up to half a second, idle for up to three. Prints how many rows agree
within 2 % or are flagged, the median and the largest difference, and what was flagged.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lutra.cli.quantities import parse_resolutions
from lutra.profiler.profile import profile
from lutra.spaces import get_space
from lutra.tables import LatencyTable, Measurement

SPACE = "ofa-mbv3-w1.0"
AGREED = 0.02
BURSTS = """
import os, random, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
while True:
    until = time.perf_counter() + random.uniform(0.0, 0.5)
    while time.perf_counter() < until:
        pass
    time.sleep(random.uniform(0.0, 3.0))
"""


@contextlib.contextmanager
def bursts() -> Iterator[None]:
    """Load that comes and goes on every core."""
    with contextlib.ExitStack() as running:
        for core in os.sched_getaffinity(0):
            process = subprocess.Popen([sys.executable, "-c", BURSTS, str(core)])
            running.enter_context(process)
            running.callback(process.kill)
        yield


def rows(path: Path) -> dict[str, Measurement]:
    """What a table holds of ops, by key."""
    with LatencyTable.open(path) as table:
        return {row.key: row.measurement for row in table.rows("op") if row.measurement}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolutions", default="224")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--first", type=Path)
    given = parser.parse_args()
    resolutions = parse_resolutions(given.resolutions, get_space(SPACE).resolutions)

    def measured(path: Path) -> str:
        """Profile; how long that took, and what was flagged."""
        summary = profile("cpu", SPACE, path, resolutions=resolutions, runtime=given.runtime)
        return f"{summary.wall_seconds:.0f} s, {summary.visits} visits, flagged {summary.flags}"

    with tempfile.TemporaryDirectory() as folder:
        path = given.first or Path(folder) / "first.lut"
        print(f"first, alone         {'made before' if given.first else measured(path)}")
        second_path = Path(folder) / "second.lut"
        with bursts():
            print(f"second, under bursts {measured(second_path)}")
        first, second = rows(path), rows(second_path)
    ratios = np.array([second[key].latency_ms / first[key].latency_ms - 1.0 for key in first])
    flagged = np.array([bool(first[key].flags or second[key].flags) for key in first])
    fine = (np.abs(ratios) <= AGREED) | flagged
    print(f"rows of {len(first)} within 2 % or flagged: {100 * fine.mean():.1f} %"
          f" ({flagged.sum()} flagged)")  # fmt: skip
    print(f"difference: median {100 * np.median(ratios):+.2f} %, largest"
          f" {100 * np.abs(ratios).max():.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
