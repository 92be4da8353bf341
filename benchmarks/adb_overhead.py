"""How much of a profile over adb is not timing: transfer, process starts, connections.

    python -m benchmarks.adb_overhead [--architecture amd64] [--ops 96]

A phone of the tests (tests/peers: Android's adbd) with a program whose inference sleeps: 100 ms of
timing per model, warm-up included. Overhead is wall time less that. amd64 runs natively; on arm64
under qemu each process start costs 60 ms more, which is qemu's. The baseline, on every 8th op of
the same run, is the flow of a benchmarking script: push, chmod, run, remove, one adb command each.
Needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from lutra.devices.base import RuntimeConfig
from lutra.devices.benchmark_model.binary import ENVIRONMENT
from lutra.devices.registry import open_device
from lutra.emitters.emission import Emission
from lutra.ops import OpConfig
from lutra.profiler.bench import open_bench
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.workload import ModelStore, op_workload
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from tests.peers.adb_server import AdbServer
from tests.peers.phone import Phone
from tests.peers.roots import Architecture, available, sleeping_benchmark

ROUNDS = 2
SECONDS = 0.08
WARMUP_SECONDS = 0.02


def profile(serial: str, ops: list[OpConfig], folder: Path) -> tuple[float, float]:
    """Wall seconds of a profile from opening the device to the closed table, and timed seconds."""
    protocol = TimingProtocol(
        seconds=SECONDS,
        warmup_seconds=WARMUP_SECONDS,
        reference_seconds=SECONDS,
        rule=StoppingRule(min_rounds=ROUNDS, max_rounds=ROUNDS),
    )
    started = time.perf_counter()
    with (
        open_device(f"adb:{serial}") as device,
        open_bench(device, RuntimeConfig("benchmark_model")) as bench,
        LatencyTable.create(folder / "phone.lut", bench.target) as table,
    ):
        summary = bench.measure(table, [op_workload(op, bench.emission) for op in ops], protocol)
    assert not summary.failed
    waited = summary.cooled_seconds
    return time.perf_counter() - started - waited, summary.busy_seconds


def one_by_one(adb: list[str], program: Path, ops: list[OpConfig], folder: Path) -> float:
    """Wall seconds of timing each op's model by adb commands of its own."""
    store = ModelStore(folder, "tflite")
    paths = [store.path(op_workload(op, Emission("tflite"))) for op in ops]
    remote = "/data/local/tmp"
    flags = f"--min_secs={SECONDS} --warmup_min_secs={WARMUP_SECONDS} --num_runs=3"
    started = time.perf_counter()
    for path in paths:
        for words in (
            ["push", str(program), f"{remote}/benchmark_model"],
            ["push", str(path), f"{remote}/model.tflite"],
            ["shell", f"chmod +x {remote}/benchmark_model"],
            ["shell", f"{remote}/benchmark_model --graph={remote}/model.tflite {flags}"],
            ["shell", f"rm {remote}/model.tflite"],
        ):
            subprocess.run([*adb, *words], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", choices=("amd64", "arm64"), default="amd64")
    parser.add_argument("--ops", type=int, default=96)
    arguments = parser.parse_args()
    architecture: Architecture = arguments.architecture
    if missing := available(architecture):
        raise SystemExit(missing)
    from adbutils import adb_path

    ops = get_space("ofa-mbv3-w1.0").ops_at([224])[: arguments.ops]
    program = sleeping_benchmark(architecture)
    os.environ[ENVIRONMENT] = str(program)
    with (
        tempfile.TemporaryDirectory() as name,
        AdbServer(Path(name)) as server,
        Phone(architecture, storage_mb=1024) as phone,
    ):
        os.environ.update(server.environment)
        wall, busy = profile(phone.serial, ops, Path(name))
        some = ops[::8]
        naive = one_by_one([adb_path(), "-s", phone.serial], program, some, Path(name))
    per_model = naive / len(some)
    print(f"phone: {architecture}; {len(ops)} ops, {ROUNDS} rounds, references between them")
    print(f"lutra: {wall:.1f} s, {busy:.1f} s of them timing or warming up")
    print(f"  overhead {100 * (1 - busy / wall):.1f} % of wall time (asked: at most 20 %)")
    print(f"one by one: {per_model * 1e3:.0f} ms per model")
    print(f"  overhead {100 * (1 - (SECONDS + WARMUP_SECONDS) / per_model):.1f} %")


if __name__ == "__main__":
    main()
