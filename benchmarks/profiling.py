"""How much of `lutra profile`'s wall time goes into timing models, and how long a table takes.

    python benchmarks/profiling.py [--resolutions all] [-o table.lut]

Runs the real command in a process of its own, imports included. The baseline is the loop that
published scripts use: one op after another, a fresh session each, 10 warm-up and 50 timed runs.
It is run on every 16th op of the same table, in the same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lutra.emitters.emission import Emission
from lutra.ops import OpConfig, parse_key
from lutra.profiler.workload import ModelStore, op_workload
from lutra.tables import LatencyTable


def profile(path: Path, resolutions: str) -> tuple[dict[str, float], float]:
    """Run the command; its summary and its wall seconds from start to exit."""
    command = [sys.executable, "-m", "lutra", "profile", "cpu", "-o", str(path)]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--resolutions", resolutions, "--json"], stdout=subprocess.PIPE, check=False
    )
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    return json.loads(done.stdout), time.perf_counter() - started


def naive(ops: list[OpConfig], folder: Path) -> tuple[float, float]:
    """Seconds and seconds of timed runs of the usual loop over these ops."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    store = ModelStore(folder)
    started, timed = time.perf_counter(), 0.0
    for op in ops:
        path = store.path(op_workload(op, Emission()))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = session.get_inputs()[0]
        values = {feed.name: np.random.default_rng(0).standard_normal(feed.shape, dtype=np.float32)}
        for _ in range(10):
            session.run(None, values)
        begun = time.perf_counter()
        for _ in range(50):
            session.run(None, values)
        timed += time.perf_counter() - begun
    return time.perf_counter() - started, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolutions", default="all")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = arguments.output or folder / "bench.lut"
        summary, wall = profile(path, arguments.resolutions)
        with LatencyTable.open(path) as table:
            ops = [parse_key(row.key) for row in table.rows("op")][::16]
        naive_wall, naive_timed = naive(ops, folder)
    busy = summary["busy_seconds"] / (wall - summary["cooled_seconds"])
    print(f"ops                          {summary['subjects'] - summary['networks']:.0f} and"
          f" {summary['networks']:.0f} networks")  # fmt: skip
    print(f"wall seconds                 {wall:.1f} (of them waiting for a steady machine:"
          f" {summary['cooled_seconds']:.1f})")  # fmt: skip
    print(f"visits, of them flagged      {summary['visits']:.0f}, {summary['flagged_visits']:.0f}")
    print(f"stable / unstable / failed   {summary['stable']:.0f} / {summary['unstable']:.0f}"
          f" / {summary['failed']:.0f}")  # fmt: skip
    print(f"running models, with warm-up {100 * busy:.1f} % of the wall time")
    print(f"inside timed blocks          {100 * summary['timed_seconds'] / wall:.1f} %")
    print(f"naive loop, timed runs       {100 * naive_timed / naive_wall:.1f} % ({len(ops)} ops)")
    print(f"ratio of the shares          {busy / (naive_timed / naive_wall):.2f}")


if __name__ == "__main__":
    main()
