"""This machine's CPU: a worker process pinned to as many cores as it has threads."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from lutra.devices.base import Device, DeviceInfo, Health, RuntimeConfig, Session
from lutra.devices.claims import Claim, claim, claim_cores
from lutra.devices.options import check_config
from lutra.devices.remote.cores import cores_of
from lutra.devices.sessions.local_process import LocalProcess
from lutra.devices.sessions.runtimes import installed_runtimes, runtime_options
from lutra.devices.sessions.worker_client import WorkerClient
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.errors import UsageError
from lutra.text import one_line

_BUSY_PERCENT = 20.0  # of a core
_LOOK_SECONDS = 0.1
_TAKEN_PERCENT = 50.0
_SPINS = 100_000  # about a millisecond
_SPIN_ROUNDS = 10
_MOST_SPUN = 64
_ALIKE = 0.1  # cores that differ by less serve as well
_CPU_SYSFS = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def cpu_device(address: str) -> CpuDevice:
    """The device of spec ``cpu``; raises `UsageError` if anything follows the colon."""
    if address:
        raise UsageError(f"the spec is plain 'cpu', not 'cpu:{address}'")
    return CpuDevice()


class CpuDevice(Device):
    """The machine that lutra runs on."""

    def info(self) -> DeviceInfo:
        return DeviceInfo(
            spec="cpu",
            kind="cpu",
            model=_model_name(),
            architecture=platform.machine(),
            os=f"{platform.system()} {platform.release()}",
            cores=psutil.cpu_count(logical=True) or 1,
            memory_bytes=psutil.virtual_memory().total,
            governor=_read(_CPU_SYSFS / "scaling_governor"),
        )

    def health(self) -> Health:
        clock = _read(_CPU_SYSFS / "scaling_cur_freq")
        return Health(
            load_1m=load_1m(),
            clock_mhz=int(clock) / 1000 if clock else None,
            temperature_c=_temperature(),
            other_processes=_busy_processes(),
        )

    def runtimes(self) -> tuple[str, ...]:
        return installed_runtimes()

    def open(self, config: RuntimeConfig) -> Session:
        check_config(config, "cpu", runtime_options())
        cores, held = pinned_cores(config)
        return WorkerSession(start_worker, config, cores, claim=held)


def load_1m() -> float:
    """Processes that wanted to run, on average over the last minute."""
    return psutil.getloadavg()[0]


def start_worker() -> WorkerClient:
    """A worker process on this machine."""
    command = [sys.executable, "-P", "-m", "lutra.devices.worker"]  # -P: nothing from the cwd
    return WorkerClient(LocalProcess(command, {**os.environ, "OMP_NUM_THREADS": "1"}))


def pinned_cores(config: RuntimeConfig) -> tuple[tuple[int, ...], Claim]:
    """The cores to pin to, claimed: those of the config's mask, else the quickest that are free.

    More threads than pinned cores is catastrophic for latency, so it is refused. No cores, but a
    claim of the machine, where the system has no affinity call. Raises `UsageError`, and
    `TransientDeviceError` where others measure there.
    """
    if not hasattr(os, "sched_getaffinity"):
        return (), claim("this machine")
    allowed = sorted(os.sched_getaffinity(0))
    threads = config.threads
    if not 1 <= threads <= len(allowed):
        raise UsageError(f"--threads {threads}: this machine offers 1 to {len(allowed)}")
    known = cores_of(config.core_mask)
    again = len(known) == threads and set(known) <= set(allowed)
    return claim_cores(threads, known if again else _quickest_first(allowed[::-1]))


def _quickest_first(cores: Sequence[int]) -> list[int]:
    """The cores without other work first, then by what a little arithmetic takes on each now.

    A neighbour's virtual machine on the same physical core, or a core that is built to save power,
    makes it half as quick again. Where cores are alike they stay as they come: the last ones
    first, since the first serve most interrupts.
    """
    tried = cores[:_MOST_SPUN]
    busy = psutil.cpu_percent(_LOOK_SECONDS, percpu=True)
    here = os.sched_getaffinity(0)
    try:
        rounds = [[_spin_seconds(core) for core in tried] for _ in range(_SPIN_ROUNDS)]
    finally:
        os.sched_setaffinity(0, here)
    seconds = [sum(seen) for seen in zip(*rounds, strict=True)]
    steps = [round(math.log(spent / min(seconds)) / math.log1p(_ALIKE)) for spent in seconds]
    ranked = sorted(
        zip(tried, steps, strict=True),
        key=lambda ranks: (ranks[0] < len(busy) and busy[ranks[0]] > _TAKEN_PERCENT, ranks[1]),
    )
    return [*(core for core, _ in ranked), *cores[_MOST_SPUN:]]


def _spin_seconds(core: int) -> float:
    os.sched_setaffinity(0, [core])
    begun = time.perf_counter()
    sum(range(_SPINS))
    return time.perf_counter() - begun


def _busy_processes() -> tuple[str, ...]:
    """The other processes that keep cores busy now, the busiest first."""
    others = [process for process in psutil.process_iter() if process.pid != os.getpid()]
    for process in others:
        _percent(process)
    time.sleep(_LOOK_SECONDS)
    busy = sorted(((_percent(process), process) for process in others), key=lambda item: -item[0])
    return tuple(
        f"{_command(process)} (pid {process.pid}, {percent:.0f} % of a core)"
        for percent, process in busy
        if percent >= _BUSY_PERCENT
    )


def _percent(process: psutil.Process) -> float:
    """Its share of a core since it was last asked; 0 for one that ended."""
    try:
        return process.cpu_percent()
    except psutil.Error:
        return 0.0


def _command(process: psutil.Process) -> str:
    try:
        return one_line(" ".join(process.cmdline()))[:60] or process.name()
    except psutil.Error:
        return "a process"


def _model_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return one_line(match.group(1)) if match else platform.machine()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def _temperature() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):  # not on Windows and macOS
        return None
    readings = [
        reading.current for chip in psutil.sensors_temperatures().values() for reading in chip
    ]
    return max(readings) if readings else None
