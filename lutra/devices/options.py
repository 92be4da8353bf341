"""Checks of what a device and its runtime are told, and the words by which a target records it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from lutra.devices.base import RuntimeConfig
from lutra.errors import UsageError

Options = Mapping[str, tuple[str, ...]]

_MASK = re.compile(r"(?:0x)?[0-9a-fA-F]{1,64}")
# Options of a device, not of a runtime: any text of this form.
CORES = MappingProxyType({"cores": _MASK})
PYTHON = MappingProxyType({"python": re.compile(r"[^,=\x00-\x1f]+")})


def check_config(
    config: RuntimeConfig,
    spec: str,
    runtimes: Mapping[str, Options],
    free: Mapping[str, re.Pattern[str]] = MappingProxyType({}),
) -> None:
    """Raise `UsageError` unless the device offers the config's runtime and its options.

    ``runtimes`` maps each runtime to its options and their values, the default first; ``free``
    maps options of the device's own to the form of their value.
    """
    if config.runtime not in runtimes:
        known = ", ".join(runtimes) or "none"
        raise UsageError(f"unknown runtime '{config.runtime}' for {spec}; known: {known}")
    if config.threads < 1:
        raise UsageError(f"--threads {config.threads}: at least 1")
    options = runtimes[config.runtime]
    for name, value in config.options.items():
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
                f"{config.runtime} has no option '{name}={value}'; known: {known or 'none'}"
            )


def options_text(config: RuntimeConfig, options: Options) -> str:
    """The options that differ from the runtime's defaults, as a target records them."""
    return ",".join(
        f"{name}={value}"
        for name, value in sorted(config.options.items())
        if (value,) != options.get(name, ())[:1]
    )
