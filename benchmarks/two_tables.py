"""Whether two tables of one machine agree, the second made under bursts of another process's load.

    python -m benchmarks.two_tables [--resolutions 224] [--runtime onnxruntime]

Profiles OFA-MobileNetV3 twice on this machine's CPU. During the second, processes pinned to each
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
from lutra.profiler.record import RunSummary
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolutions", default="224")
    parser.add_argument("--runtime", default="onnxruntime")
    given = parser.parse_args()
    resolutions = parse_resolutions(given.resolutions, get_space(SPACE).resolutions)

    def measured(path: Path) -> tuple[RunSummary, dict[str, Measurement]]:
        summary = profile("cpu", SPACE, path, resolutions=resolutions, runtime=given.runtime)
        with LatencyTable.open(path) as table:
            rows = {row.key: row.measurement for row in table.rows("op") if row.measurement}
        return summary, rows

    with tempfile.TemporaryDirectory() as folder:
        quiet, first = measured(Path(folder) / "first.lut")
        with bursts():
            disturbed, second = measured(Path(folder) / "second.lut")
    ratios = np.array([second[key].latency_ms / first[key].latency_ms - 1.0 for key in first])
    flagged = np.array([bool(first[key].flags or second[key].flags) for key in first])
    fine = (np.abs(ratios) <= AGREED) | flagged
    print(f"ops                              {len(first)}")
    print(f"seconds, alone, under bursts {quiet.wall_seconds:.0f}, {disturbed.wall_seconds:.0f}")
    print(f"visits flagged, of all           {quiet.flags} of {quiet.visits}")
    print(f"  under bursts                   {disturbed.flags} of {disturbed.visits}")
    print(f"rows within 2 % or flagged       {100 * fine.mean():.1f} % ({flagged.sum()} flagged)")
    print(f"difference: median, largest      {100 * np.median(ratios):+.2f} %,"
          f" {100 * np.abs(ratios).max():.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
