"""What lutra says of networks against a plain loop over the same files, in turns.

    python -m benchmarks.plain_loop TABLE [--networks 12] [--rounds 8] [--plot FILE.svg]

Exports networks of the table's space at its smallest, middle and largest resolution. A loop
without lutra (another process, pinned to the table's cores) times them before and after `verify`'s
way of measuring: 40 runs back to back, their 20th percentile, the median over shuffled rounds.
Prints lutra's raw latency as a ratio to the loop's, per resolution, and how far the loop repeats
itself. For tables of onnxruntime and LiteRT.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.plots import save
from lutra.devices.remote.cores import cores_of
from lutra.emitters.emission import Emission
from lutra.emitters.model_file import read_model_file
from lutra.predictors.efficiency.predictor import Floats
from lutra.profiler.bench import bench_of_table
from lutra.profiler.protocols import NETWORK_PROTOCOL
from lutra.profiler.workload import model_workload
from lutra.spaces import Architecture, get_space, sample_networks
from lutra.tables import LatencyTable
from lutra.tables.profiled import resolutions_of

# The loop: nothing of lutra's in it.
LOOP = """
import json, os, random, sys, time
import numpy as np
runtime, cores, rounds, *paths = json.loads(sys.argv[1])
os.sched_setaffinity(0, cores)
def onnxruntime(path):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = len(cores)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {i.name: np.random.rand(*i.shape).astype(np.float32) for i in session.get_inputs()}
    return lambda: session.run(None, feed)
def litert(path):
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path, num_threads=len(cores))
    interpreter.allocate_tensors()
    for i in interpreter.get_input_details():
        interpreter.set_tensor(i["index"], np.random.rand(*i["shape"]).astype(i["dtype"]))
    return interpreter.invoke
runs = {path: {"onnxruntime": onnxruntime, "litert": litert}[runtime](path) for path in paths}
low = {path: [] for path in paths}
for _ in range(rounds):
    for path in random.sample(paths, len(paths)):
        seconds = []
        for _ in range(40):
            begun = time.perf_counter()
            runs[path]()
            seconds.append(time.perf_counter() - begun)
        low[path].append(1e3 * np.quantile(seconds, 0.2))
print(json.dumps([float(np.median(low[path])) for path in paths]))
"""


@dataclass(frozen=True)
class Compared:
    """Networks and what they took, in ms: by the loop before and after, and by lutra between."""

    architectures: list[Architecture]
    before_ms: Floats
    lutra_ms: Floats
    after_ms: Floats

    @property
    def ratio(self) -> Floats:
        """lutra's latency to the loop's, the mean of before and after."""
        return np.asarray(2.0 * self.lutra_ms / (self.before_ms + self.after_ms))

    @property
    def repeated(self) -> Floats:
        """The loop after to the loop before."""
        return np.asarray(self.after_ms / self.before_ms)


def loop(table: LatencyTable, rounds: int, paths: list[Path]) -> Floats:
    cores = list(cores_of(table.target.core_mask))
    asked = json.dumps([table.target.runtime, cores, rounds, *map(str, paths)])
    done = subprocess.run(
        [sys.executable, "-c", LOOP, asked], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: the loop failed: {done.stderr.strip().splitlines()[-1]}")
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def compare(path: Path, count: int, rounds: int) -> Compared:
    with LatencyTable.open(path) as table, tempfile.TemporaryDirectory() as folder:
        target = table.target
        name, covered = resolutions_of(table, None)
        space = get_space(name)
        chosen = sorted({covered[0], covered[len(covered) // 2], covered[-1]})
        architectures = [
            item
            for resolution in chosen
            for item in sample_networks(space, [resolution], count // len(chosen), 7)
        ]
        emission = Emission(_format(target.runtime), target.precision, target.batch)
        files = []
        for number, architecture in enumerate(architectures):
            files.append(Path(folder) / f"{number}.{emission.format}")
            files[-1].write_bytes(emission.builder(partial(space.graph, architecture))())
        before = loop(table, rounds, files)
        workloads = [model_workload(read_model_file(file)) for file in files]
        scratch = Path(folder) / "scratch.lut"
        with bench_of_table(path) as (_, bench), LatencyTable.create(scratch, target) as fresh:
            bench.measure(fresh, workloads, NETWORK_PROTOCOL)
            found = {row.key: row.measurement for row in fresh.rows("network") if row.measurement}
        lutra = np.array([found[workload.key].latency_ms for workload in workloads])
        return Compared(architectures, before, lutra, loop(table, rounds, files))


def _format(runtime: str) -> str:
    return {"onnxruntime": "onnx", "litert": "tflite"}[runtime]


def plot(compared: Compared, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    loop_ms = (compared.before_ms + compared.after_ms) / 2
    axes.axhspan(-1, 1, color="#dddddd", label="within 1 %")
    axes.plot(loop_ms, 100 * (compared.ratio - 1), "o", label="lutra to the loop")
    axes.plot(loop_ms, 100 * (compared.repeated - 1), "x", label="the loop after to before")
    axes.set(xlabel="plain loop, ms", ylabel="difference, %")
    axes.legend()
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    compared = compare(given.table, given.networks, given.rounds)
    resolutions = np.array([item.r for item in compared.architectures])
    print("resolution  networks  loop ms  lutra / loop  loop after / before")
    for resolution in np.unique(resolutions):
        own = resolutions == resolution
        print(
            f"{resolution:10}  {own.sum():8}  {np.median(compared.before_ms[own]):7.3f}"
            f"  {np.median(compared.ratio[own]):12.3f}  {np.median(compared.repeated[own]):19.3f}"
        )
    print(f"all: {np.median(compared.ratio):.3f}, each {np.round(compared.ratio, 3).tolist()}")
    if given.plot:
        plot(compared, given.plot)


if __name__ == "__main__":
    main()
