"""From a spec string (``cpu``, ``fake:slow``) to a device.

Adapters of other packages are found through the entry-point group ``lutra.devices``: the entry's
name is the scheme, its object a callable that takes the text behind the colon.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from lutra.devices.base import Device
from lutra.errors import UsageError

_GROUP = "lutra.devices"
_BUILT_IN = {"cpu": "lutra.devices.cpu:cpu_device", "fake": "lutra.devices.fake:fake_device"}


def device_schemes() -> tuple[str, ...]:
    """The schemes that `open_device` understands, sorted."""
    return tuple(sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=_GROUP))}))


def open_device(spec: str) -> Device:
    """The device that a spec string names; raises `UsageError` for an unknown scheme."""
    scheme, _, address = spec.partition(":")
    return _factory(scheme)(address)


def _factory(scheme: str) -> Callable[[str], Device]:
    if scheme in _BUILT_IN:
        module, _, name = _BUILT_IN[scheme].partition(":")
        factory: Callable[[str], Device] = getattr(import_module(module), name)
        return factory
    for entry in entry_points(group=_GROUP):
        if entry.name == scheme:
            factory = entry.load()
            return factory
    raise UsageError(
        f"unknown device '{scheme}'; known: {', '.join(device_schemes())}."
        " `lutra devices` lists what is attached"
    )
