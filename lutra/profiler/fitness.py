"""Is a device fit to measure on: its state, its noise floor, and what to do about each finding."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from lutra.devices.base import (
    Device,
    DeviceInfo,
    Health,
    RequestFailure,
    Setting,
    TimingRequest,
)
from lutra.errors import PermanentDeviceError
from lutra.profiler.job import Bench, open_bench
from lutra.profiler.statistics import visit_from_sample
from lutra.profiler.subject import reference_subjects

_VISITS = 20
_NOISY_PERCENT = 3.0


@dataclass(frozen=True)
class Fitness:
    """``noise_percent``: how far the references' visits spread (10th to 90th percentile)."""

    info: DeviceInfo
    health: Health
    noise_percent: float
    findings: tuple[str, ...]


def examine(device: Device, setting: Setting) -> Fitness:
    """Look at the device and time the references for a few seconds; raises `DeviceError`."""
    info, health = device.info(), device.health()
    with open_bench(device, setting) as bench:
        noise = _noise_percent(bench)
    return Fitness(info, health, noise, tuple(_findings(info, health, noise)))


def _noise_percent(bench: Bench) -> float:
    """The worse reference's spread of visit values, in percent of their median."""
    references = reference_subjects(bench.emission) * _VISITS
    requests = [
        TimingRequest(number, bench.store.path(reference), keep=True)
        for number, reference in enumerate(references)
    ]
    values: dict[str, list[float]] = defaultdict(list)
    for outcome in bench.session.measure(requests):
        if isinstance(outcome, RequestFailure):
            raise PermanentDeviceError(f"a reference block could not be timed: {outcome.message}")
        visit = visit_from_sample(outcome, 1, outcome.process)
        values[references[outcome.id].key].append(visit.low_ms)
    spreads = [
        (np.quantile(seen, 0.9) - np.quantile(seen, 0.1)) / np.median(seen)
        for seen in values.values()
    ]
    return 100.0 * float(max(spreads, default=np.nan))


def _findings(info: DeviceInfo, health: Health, noise: float) -> list[str]:
    findings = []
    if info.governor is not None and info.governor != "performance":
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
    if not noise <= _NOISY_PERCENT:
        findings.append(
            f"noise floor {noise:.1f} %: expect unstable rows and more rounds;"
            " look for other load, virtual machines or power saving"
        )
    return findings
