"""The memory that what was found takes: a fresh process loads and runs each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lutra.errors import DeviceError
from lutra.profiler.bench import Bench
from lutra.profiler.watch import Watch
from lutra.profiler.workload import Workload
from lutra.search.candidate import Candidate, MeasuredMemory

_TELLS_NOT = (
    "this device does not tell what memory a network takes; Linux does for workers on a CPU, and"
    " benchmark_model's interpreter build for itself"
)


def with_memory(
    bench: Bench,
    candidates: Sequence[Candidate],
    workloads: Sequence[Workload],
    limit_seconds: float,
    watch: Watch,
) -> tuple[Candidate, ...]:
    """The candidates with what was measured for their workloads; ``watch`` is told what was not."""
    found = []
    tells = True
    for candidate, workload in zip(candidates, workloads, strict=True):
        taken = None
        try:
            taken = bench.process_memory(workload, limit_seconds) if tells else None
            tells = taken is not None
        except DeviceError as error:  # its latency was measured, and is not lost for this
            watch.on_note(f"the memory that a network takes could not be measured: {error}")
        memory = MeasuredMemory(
            None if taken is None else taken.peak_bytes,
            None if taken is None else taken.running_bytes,
            bench.store.path(workload).stat().st_size,
        )
        found.append(replace(candidate, memory=memory))
    if not tells:
        watch.on_note(_TELLS_NOT)
    return tuple(found)
