"""A GPU and its host, event by event, and the tables that lutra would make of them.

The host hands over kernels one after another and runs ahead; the device works them off in order.
Nothing here knows of sums or of the larger of two: a block of runs takes what the queue takes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lutra.emitters.emission import Emission
from lutra.ops import Graph, Node, OpConfig
from lutra.profiler.statistics import summarise
from lutra.profiler.workload import Workload
from lutra.spaces import Architecture, SearchSpace, parse_architecture
from lutra.tables import LatencyTable, Target, Visit
from lutra.tables.profiled import note_profiled

VISITS = 6

_LAUNCH_US = {"conv2d": 12.0, "depthwise": 11.0, "linear": 9.0, "global_pool": 8.0, "add": 6.0}
_OTHER_LAUNCH_US = 5.0
_RUN_US = 10.0  # what the host spends on each run, of an op or a network
_START_US = 2.0  # until the device begins what it was handed
_DRAIN_US = 1.2  # each kernel's own start and end
_PAUSE_US = 0.4  # between kernels, unless they are replayed
_FLOPS_PER_US = 25e6
_BYTES_PER_US = 2.2e6
_DEPTHWISE = 0.1  # of the arithmetic that other convolutions reach
_WARM = 0.75  # an op run alone finds its input in the cache: the share of the time that it takes


@dataclass(frozen=True)
class Kernel:
    """Microseconds: what the host needs to launch it, and what the device does."""

    launch: float
    device: float
    device_warm: float


@dataclass(frozen=True)
class Gpu:
    """The two of them at a batch; ``slow_host`` multiplies what launches take."""

    batch: int
    slow_host: float = 1.0
    noise: float = 0.01
    runs: int = 20

    def kernels(self, op: OpConfig) -> list[Kernel]:
        """One per node of the op's graph."""
        return [self._kernel(op.graph, node) for node in op.graph.nodes]

    def _kernel(self, graph: Graph, node: Node) -> Kernel:
        launch = self.slow_host * _LAUNCH_US.get(node.op, _OTHER_LAUNCH_US)
        shapes = [graph.shapes[name] for name in (*node.inputs, node.name)]
        macs = 0.0
        if node.has_weights:
            out = graph.shapes[node.name]
            macs = float(np.prod(graph.weight_shape(node))) * out.elements / out.channels
        rate = _FLOPS_PER_US * (_DEPTHWISE if node.op == "depthwise" else 1.0)
        arithmetic = 2.0 * self.batch * macs / rate
        traffic = 2.0 * self.batch * sum(shape.elements for shape in shapes) / _BYTES_PER_US
        warm = _WARM if graph.input in node.inputs else 1.0
        return Kernel(
            launch,
            _DRAIN_US + max(arithmetic, traffic),
            _DRAIN_US + max(arithmetic, warm * traffic),
        )

    def alone_ms(self, op: OpConfig) -> float:
        """An op alone, launched kernel by kernel."""
        kernels = self.kernels(op)
        return self._queue_ms([(k.launch, k.device_warm + _PAUSE_US) for k in kernels])

    def unit_device_ms(self, op: OpConfig) -> float:
        """An op alone, replayed: the host hands over all of it at once."""
        return sum(kernel.device_warm for kernel in self.kernels(op)) / 1e3

    def network_device_ms(self, ops: Sequence[OpConfig]) -> float:
        """A whole network, replayed."""
        return sum(kernel.device for op in ops for kernel in self._known(op)) / 1e3

    def network_ms(self, ops: Sequence[OpConfig]) -> float:
        """A whole network, launched kernel by kernel."""
        kernels = [kernel for op in ops for kernel in self._known(op)]
        return self._queue_ms([(k.launch, k.device + _PAUSE_US) for k in kernels])

    def _queue_ms(self, kernels: Sequence[tuple[float, float]]) -> float:
        """One block of runs: from the first launch to the end of the last kernel, per run."""
        host = free = 0.0
        for _ in range(self.runs):
            host += _RUN_US
            for launch, device in kernels:
                host += launch
                free = max(free, host + _START_US) + device
        return free / self.runs / 1e3

    @cached_property
    def _cache(self) -> dict[str, list[Kernel]]:
        return {}

    def _known(self, op: OpConfig) -> list[Kernel]:
        if op.key not in self._cache:
            self._cache[op.key] = self.kernels(op)
        return self._cache[op.key]


@dataclass
class GpuBench:
    """Stands in for `lutra.profiler.bench.Bench`: measures workloads in the simulation.

    ``eager`` launches kernel by kernel; otherwise all is replayed.
    """

    gpu: Gpu
    space: SearchSpace
    rng: np.random.Generator
    eager: bool = True
    emission: Emission = field(default_factory=Emission)

    def true_ms(self, architecture: Architecture) -> float:
        """What a network takes, without noise."""
        ops = self.space.ops_of(architecture)
        return self.gpu.network_ms(ops) if self.eager else self.gpu.network_device_ms(ops)

    def measure(
        self, table: LatencyTable, workloads: Sequence[Workload], *_: Any, **__: Any
    ) -> None:
        """Commit visits of networks."""
        for workload in workloads:
            architecture = parse_architecture(json.loads(workload.key), self.space.name)
            visits = self._visits(self.true_ms(architecture))
            _record(table, workload.category, workload.key, workload.role, visits)

    def profile(self, table: LatencyTable, resolutions: Sequence[int]) -> None:
        """Commit visits of ops it lacks, eager ones with what the device alone needs."""
        known = table.op_latencies()
        for op in self.space.ops_at(resolutions):
            if op.key in known:
                continue
            device = self.gpu.unit_device_ms(op)
            eager = self.gpu.alone_ms(op)
            visits = self._visits(eager, device) if self.eager else self._visits(device)
            _record(table, "op", op.key, "", visits)
        note_profiled(table, "cuda:0", self.space.name, resolutions)

    def _visits(self, latency_ms: float, device_ms: float | None = None) -> list[Visit]:
        """Visits whose median is off by ``noise``, however many there are."""
        off = 1.0 + self.gpu.noise * self.rng.standard_normal(2)
        device = None if device_ms is None else float(device_ms * off[1])
        low = float(latency_ms * off[0])
        return [
            Visit(number, 1 + number % 2, low, low, low, 10, self.gpu.runs, 0.1, 0.0, (), None,
                  device)
            for number in range(1, VISITS + 1)
        ]  # fmt: skip


def _record(table: Any, category: Any, key: str, role: str, visits: list[Visit]) -> None:
    for index, visit in enumerate(visits):
        table.record_visit(category, key, visit, summarise(visits[: index + 1]), role)


def gpu_table(path: Path, bench: GpuBench, resolutions: Sequence[int]) -> Path:
    """A profiled table of the simulated GPU."""
    target = Target(
        "cuda", "simulated", "x86_64", "gpu", "torch", "2.0", "", "fp16", 1, "any",
        bench.gpu.batch, options="" if bench.eager else "graph=on",
    )  # fmt: skip
    with LatencyTable.create(path, target) as table:
        bench.profile(table, resolutions)
    return path
