"""The cores that runs are pinned to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from lutra.devices.base import RuntimeConfig
from lutra.devices.remote.probe import SystemFacts, fastest_cores
from lutra.errors import PermanentDeviceError, TransientDeviceError, UsageError

_MOST_CORES = 1024


def core_mask(cores: Sequence[int]) -> str:
    """The cores as a hexadecimal mask, as `taskset` takes it; ``any`` for none in particular."""
    return f"{sum(1 << core for core in cores):x}" if cores else "any"


def cores_of(mask: str) -> tuple[int, ...]:
    """The cores of a hexadecimal mask, sorted; none for ``any`` and for what is no mask."""
    bits = int(mask, 16) if re.fullmatch("[0-9a-fA-F]+", mask) else 0
    return tuple(core for core in range(_MOST_CORES) if bits >> core & 1)


def cores_text(mask: str) -> str:
    """The cores of a mask in words: ``core 1``, ``cores 0, 4-7``, ``any core``."""
    cores = cores_of(mask)
    if not cores:
        return "any core"
    runs = [list(run) for _, run in groupby(cores, key=lambda core: core - cores.index(core))]
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"core{'s' if len(cores) > 1 else ''} {', '.join(spans)}"


def chosen_cores(config: RuntimeConfig, facts: SystemFacts, spec: str) -> tuple[int, ...]:
    """The cores that a config pins to: those of ``--option cores=MASK``, else the fastest.

    Raises `TransientDeviceError` when one of them is switched off now, and `UsageError` for cores
    that the device lacks. More threads than pinned cores is catastrophic for latency: also refused.
    """
    cores = _named_cores(config, facts.cores, spec) or fastest_cores(facts, config.threads)
    if config.threads > len(cores):
        raise UsageError(f"--threads {config.threads}: {spec} offers 1 to {len(facts.cores)}")
    if off := sorted(set(cores) & set(facts.cores_off)):
        raise TransientDeviceError(
            f"core {off[0]} of {spec} is switched off now: let it cool, wake it, or choose others"
            " with --option cores=MASK"
        )
    return cores


def require_taskset(config: RuntimeConfig, facts: SystemFacts, spec: str) -> bool:
    """Whether the device can pin; raises `PermanentDeviceError` if not but cores are named."""
    if not facts.has("taskset") and "cores" in config.options:
        raise PermanentDeviceError(f"{spec} has no taskset: it cannot pin to cores")
    return facts.has("taskset")


def _named_cores(config: RuntimeConfig, present: Sequence[int], spec: str) -> tuple[int, ...]:
    """The cores of ``--option cores=MASK``; none without it."""
    mask = config.options.get("cores")
    if mask is None:
        return ()
    cores = cores_of(mask)
    if not cores or not set(cores) <= set(present):
        raise UsageError(
            f"--option cores={mask}: {spec} has the cores {core_mask(present)} (hexadecimal mask)"
        )
    if config.threads > len(cores):
        raise UsageError(
            f"--threads {config.threads} on {len(cores)} cores (--option cores={mask}):"
            " more threads than cores is many times slower"
        )
    return cores
