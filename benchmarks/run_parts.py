"""Where the seconds of a profiling run go, from choosing ops to calibrating.

    python -m benchmarks.run_parts [--sample 0.15] [--runtime litert --precision int8] -o table.lut

Runs `lutra.profile` in this process and prints JSON: wall seconds by part, none counted twice, the
CPU seconds of this process and of its workers, and how many visits there were.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import lutra
from lutra.devices.base import Outcome
from lutra.devices.base import Sample as TimingSample
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.predictors.filling.sample import Sample
from lutra.profiler import profile as profiling
from lutra.profiler.record import VisitRecord
from lutra.profiler.run import ProfilingRun
from lutra.profiler.workload import ModelStore, Workload

RESOLUTIONS = [160, 176, 192, 208, 224]
PARTS: dict[str, list[tuple[Any, str]]] = {
    "choosing ops": [(profiling, "most_informative")],
    "model files": [(ModelStore, "path")],
    "starting workers": [(WorkerSession, "_ready")],
    "ending workers": [(WorkerSession, "restart")],
    "asking workers": [(WorkerSession, "_timed")],
    "keeping visits": [
        (VisitRecord, name) for name in ("commit", "reconsider", "wanted", "learn_states", "settle")
    ],
    "filling in": [(profiling, "fill_in")],
    "calibrating": [(profiling, "calibrate_as_measured")],
}


class Stopwatch:
    """Seconds by part; what one part has another do counts for that one alone."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._within = [0.0]

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            self._within.append(0.0)
            try:
                return function(*args, **named)
            finally:
                spent = time.perf_counter() - begun
                self.seconds[part] += spent - self._within.pop()
                self._within[-1] += spent

        return timed

    def answered(self, workload: Workload, outcome: Outcome) -> None:
        """What the worker itself says of a request, which was waited for in asking it."""
        if isinstance(outcome, TimingSample):
            of_category = f"running {workload.category}s"
            self.seconds["loading models"] += outcome.load_seconds
            self.seconds[of_category] += outcome.busy_seconds
            self.seconds["asking workers"] -= outcome.load_seconds + outcome.busy_seconds


def main() -> None:
    """Profile, and print what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--sample", type=float, help="this share of the ops; by default all")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    watch = Stopwatch()
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, watch.wrapped(part, getattr(owner, name)))
    _listen(watch)
    summary = lutra.profile(
        "cpu",
        "ofa-mbv3-w1.0",
        given.output,
        resolutions=given.resolutions,
        sample=None if given.sample is None else Sample(share=given.sample),
        runtime=given.runtime,
        precision=given.precision,
    )
    own = psutil.Process().cpu_times()
    watch.seconds["waiting for a steady machine"] = summary.cooled_seconds
    of_workers = own.children_user + own.children_system
    found = {"visits": summary.visits, "flagged": summary.flagged_visits}
    cpu = {"own_cpu_seconds": own.user + own.system, "workers_cpu_seconds": of_workers}
    print(json.dumps({"seconds": dict(watch.seconds), **cpu, **found}))


def _listen(watch: Stopwatch) -> None:
    """Have the stopwatch hear every outcome of the run."""
    take = ProfilingRun._take

    def heard(run: ProfilingRun, workload: Workload, outcome: Outcome, number: int) -> None:
        watch.answered(workload, outcome)
        take(run, workload, outcome, number)

    setattr(ProfilingRun, "_take", heard)  # noqa: B010


if __name__ == "__main__":
    main()
