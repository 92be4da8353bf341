"""Checks of a `Setting` and the words by which a target records it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lutra.devices.base import Setting
from lutra.devices.system_probe import SystemFacts, fastest_cores
from lutra.errors import PermanentDeviceError, TransientDeviceError, UsageError

Options = Mapping[str, tuple[str, ...]]

_MASK = re.compile(r"(?:0x)?[0-9a-fA-F]{1,64}")
# Options of a device, not of a runtime: any text of this form.
CORES = MappingProxyType({"cores": _MASK})
PYTHON = MappingProxyType({"python": re.compile(r"[^,=\x00-\x1f]+")})


def check_setting(
    setting: Setting,
    spec: str,
    runtimes: Mapping[str, Options],
    free: Mapping[str, re.Pattern[str]] = MappingProxyType({}),
) -> None:
    """Raise `UsageError` unless the device offers the setting's runtime and its options.

    ``runtimes`` maps each runtime to its options and their values, the default first; ``free``
    maps options of the device's own to the form of their value.
    """
    if setting.runtime not in runtimes:
        known = ", ".join(runtimes) or "none"
        raise UsageError(f"unknown runtime '{setting.runtime}' for {spec}; known: {known}")
    if setting.threads < 1:
        raise UsageError(f"--threads {setting.threads}: at least 1")
    options = runtimes[setting.runtime]
    for name, value in setting.options.items():
        if name in free and free[name].fullmatch(value):
            continue
        if value not in options.get(name, ()):
            known = ", ".join(
                [
                    *(f"{key}={'|'.join(values)}" for key, values in options.items()),
                    *(f"{key}={key.upper()}" for key in free),
                ]
            )
            raise UsageError(
                f"{setting.runtime} has no option '{name}={value}'; known: {known or 'none'}"
            )


def options_text(setting: Setting, options: Options) -> str:
    """The options that differ from the runtime's defaults, as a target records them."""
    return ",".join(
        f"{name}={value}"
        for name, value in sorted(setting.options.items())
        if (value,) != options.get(name, ())[:1]
    )


def core_mask(cores: Sequence[int]) -> str:
    """The cores as a hexadecimal mask, as `taskset` takes it; ``any`` for none in particular."""
    return f"{sum(1 << core for core in cores):x}" if cores else "any"


def chosen_cores(setting: Setting, facts: SystemFacts, spec: str) -> tuple[int, ...]:
    """The cores that a setting pins to: those of ``--option cores=MASK``, else the fastest.

    Raises `TransientDeviceError` when one of them is switched off now, and `UsageError` for cores
    that there are not. More threads than pinned cores is catastrophic for latency: also refused.
    """
    cores = _named_cores(setting, facts.cores, spec) or fastest_cores(facts, setting.threads)
    if setting.threads > len(cores):
        raise UsageError(f"--threads {setting.threads}: {spec} offers 1 to {len(facts.cores)}")
    if off := sorted(set(cores) & set(facts.cores_off)):
        raise TransientDeviceError(
            f"core {off[0]} of {spec} is switched off now: let it cool, wake it, or choose others"
            " with --option cores=MASK"
        )
    return cores


def require_taskset(setting: Setting, facts: SystemFacts, spec: str) -> bool:
    """Whether the device can pin; raises `PermanentDeviceError` if not, and cores are named."""
    if not facts.has("taskset") and "cores" in setting.options:
        raise PermanentDeviceError(f"{spec} has no taskset: it cannot pin to cores")
    return facts.has("taskset")


def _named_cores(setting: Setting, present: Sequence[int], spec: str) -> tuple[int, ...]:
    """The cores of ``--option cores=MASK``; none without it."""
    mask = setting.options.get("cores")
    if mask is None:
        return ()
    cores = tuple(core for core in range(256) if int(mask, 16) >> core & 1)
    if not cores or not set(cores) <= set(present):
        raise UsageError(
            f"--option cores={mask}: {spec} has the cores {core_mask(present)} (hexadecimal mask)"
        )
    if setting.threads > len(cores):
        raise UsageError(
            f"--threads {setting.threads} on {len(cores)} cores (--option cores={mask}):"
            " more threads than cores is many times slower"
        )
    return cores
