"""Is a device fit to measure on: its state, its noise floor, and what to do about each finding."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lutra.devices.base import (
    Device,
    DeviceInfo,
    Health,
    RequestFailure,
    RuntimeConfig,
    TimingRequest,
)
from lutra.errors import DeviceError, LutraError, PermanentDeviceError
from lutra.profiler.bench import Bench, choose_runtime, open_bench
from lutra.profiler.protocols import OP_PROTOCOL
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.workload import Workload
from lutra.tables import Visit

_ROUNDS = 7
_VISITS_PER_ROUND = 3
_ENOUGH_SECONDS = 5.0
_NOISY_PERCENT = 3.0
_SHARED_PERCENT = 25.0
_HELD_BY_CPUPOWER = ("cpu", "board")  # Android's adapter has advice of its own


@dataclass(frozen=True)
class Diagnosis:
    """``noise_percent``: how far the references' visits spread (10th to 90th percentile).

    It is None where nothing can be measured; then ``fit`` is false and the first finding says why.
    ``shared_percent`` of those visits did not have their core to themselves; where that is much,
    the device is not fit either.
    ``runtime`` is what was tried, None where there is none.
    """

    info: DeviceInfo
    health: Health
    runtime: str | None
    noise_percent: float | None
    shared_percent: float | None
    fit: bool
    findings: tuple[str, ...]


def examine(
    device: Device,
    runtime: str | None = None,
    options: Mapping[str, str] | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Diagnosis:
    """Look at the device and time the references for about five seconds.

    ``runtime`` is by default the device's first. That it has none or that it does not work is a
    finding. Raises `DeviceError` when the device does not answer, `UsageError` when it does not
    know the runtime or option asked for.
    """
    info, health = device.info(), device.health()
    # Where the caller chose nothing, no error is the caller's mistake: each is a finding.
    expected = DeviceError if runtime is not None or options else LutraError
    noise = shared = None
    problems = []
    try:
        runtime = runtime or choose_runtime(device)
        with open_bench(device, RuntimeConfig(runtime, options=options or {})) as bench:
            visits = _visits(bench, clock)
            noise, shared = _noise_percent(visits), _shared_percent(visits)
    except expected as error:
        problems.append(str(error))
    disturbed = shared is not None and shared > _SHARED_PERCENT
    findings = [*problems, *_findings(info, health, noise), *_advice(device)]
    if disturbed:
        who = ", ".join(health.other_processes) or "another process"
        findings.insert(
            0,
            f"{shared:.0f} % of the visits shared their core or GPU with {who}:"
            " stop it while measuring",
        )
    fit = not problems and not disturbed
    return Diagnosis(info, health, runtime, noise, shared, fit, tuple(dict.fromkeys(findings)))


def _visits(bench: Bench, clock: Callable[[], float]) -> dict[str, list[Visit]]:
    """Visits of each reference, by its key, for about five seconds.

    Raises `PermanentDeviceError` when a reference cannot be timed.
    """
    visits: dict[str, list[Visit]] = defaultdict(list)
    started = clock()
    for _ in range(_ROUNDS):
        for workload, visit in _round(bench):
            visits[workload.key].append(visit)
        if clock() - started > _ENOUGH_SECONDS:
            break
    return visits


def _noise_percent(visits: Mapping[str, Sequence[Visit]]) -> float:
    """The worse reference's spread of visit values, in percent of their median."""
    values = [[visit.low_ms for visit in seen] for seen in visits.values()]
    spreads = [
        (np.quantile(seen, 0.9) - np.quantile(seen, 0.1)) / np.median(seen) for seen in values
    ]
    return 100.0 * float(max(spreads))


def _shared_percent(visits: Mapping[str, Sequence[Visit]]) -> float:
    """How many of the visits did not have their core to themselves, in percent."""
    flagged = ["shared" in visit.flags for seen in visits.values() for visit in seen]
    return 100.0 * float(np.mean(flagged))


def _round(bench: Bench) -> Iterator[tuple[Workload, Visit]]:
    """A few visits of each reference, timed as in a run, with what each came to."""
    session = bench.session
    protocol = OP_PROTOCOL if session.keeps_models else OP_PROTOCOL.suited_to(session)
    references = bench.references() * _VISITS_PER_ROUND
    requests = [
        TimingRequest(
            number,
            bench.store.path(reference),
            seconds=protocol.seconds,
            warmup_seconds=protocol.warmup_seconds,
            block_seconds=protocol.block_seconds,
            keep=True,
        )
        for number, reference in enumerate(references)
    ]
    for start in range(0, len(requests), bench.session.batch):
        for outcome in bench.session.measure(requests[start : start + bench.session.batch]):
            if isinstance(outcome, RequestFailure):
                raise PermanentDeviceError(
                    f"a reference block could not be timed: {outcome.message}"
                )
            yield references[outcome.id], visit_from_sample(outcome, 1, outcome.process)


def _advice(device: Device) -> tuple[str, ...]:
    try:
        return device.advice()
    except LutraError as error:
        return (str(error),)


def _findings(info: DeviceInfo, health: Health, noise: float | None) -> list[str]:
    findings = []
    governed = info.kind in _HELD_BY_CPUPOWER and info.governor not in (None, "performance")
    if governed:
        findings.append(
            f"the clock governor is '{info.governor}': clocks follow load;"
            " `sudo cpupower frequency-set -g performance` holds them"
        )
    if health.load_1m is not None and health.load_1m > 0.5 * info.cores:
        findings.append(f"load {health.load_1m:.1f}: stop other work while measuring")
    if health.throttled:
        findings.append("the device is throttling: let it cool down")
    if health.temperature_c is not None and health.temperature_c > 85:
        findings.append(f"{health.temperature_c:.0f} degC: let it cool down")
    if noise is not None and noise > _NOISY_PERCENT:
        findings.append(
            f"noise floor {noise:.1f} %: expect unstable rows and more rounds;"
            " look for other load, virtual machines or power saving"
        )
    return findings
