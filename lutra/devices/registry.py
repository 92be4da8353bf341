"""From a spec string (``cpu``, ``adb:R58M123``) to a device, from a runtime's name to its format.

Adapters of other packages are found through the entry-point group ``lutra.devices``: the entry's
name is the scheme, its object a callable that takes the text behind the colon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from lutra.devices.base import Attached, Device
from lutra.devices.benchmark_model.flags import FORMAT as BENCHMARK_FORMAT
from lutra.devices.benchmark_model.flags import RUNTIME as BENCHMARK
from lutra.devices.sessions.runtimes import known_runtimes
from lutra.errors import UsageError
from lutra.plugins import load_plugin, plugin_names
from lutra.text import did_you_mean, why

_GROUP = "lutra.devices"
_BUILT_IN = {
    "adb": "lutra.devices.android:android_device",
    "cpu": "lutra.devices.cpu:cpu_device",
    "cuda": "lutra.devices.cuda:cuda_device",
    "fake": "lutra.devices.fake:fake_device",
    "ssh": "lutra.devices.ssh:ssh_device",
}
_LISTS = {
    "adb": "lutra.devices.android:attached_devices",
    "cuda": "lutra.devices.cuda:attached_gpus",
}


def device_schemes() -> tuple[str, ...]:
    """The schemes that `open_device` understands, sorted."""
    return tuple(sorted({*_BUILT_IN, *plugin_names(_GROUP)}))


def open_device(spec: str) -> Device:
    """The device that a spec string names: ``cpu``, ``cuda:0``, ``adb:SERIAL``, ``ssh:user@host``.

    Raises `UsageError` for an unknown scheme.

    >>> with open_device("cpu") as device:
    ...     runtimes = device.runtimes()
    >>> "onnxruntime" in runtimes
    True
    """
    scheme, _, address = spec.partition(":")
    return _factory(scheme)(address)


@contextmanager
def opened_device(device: str | Device) -> Iterator[Device]:
    """The device that a spec string names, closed at the end; one that is open stays open."""
    if isinstance(device, Device):
        yield device
        return
    with open_device(device) as named:
        yield named


def check_spec(spec: str) -> None:
    """Raise `UsageError` unless the spec's scheme is known; nothing is imported or opened."""
    scheme = spec.partition(":")[0]
    if scheme not in device_schemes():
        near = did_you_mean(scheme, device_schemes())
        raise UsageError(
            f"unknown device '{scheme}'; known: {', '.join(device_schemes())}{near or '.'}"
            " `lutra devices` lists what is attached"
        )


def attached_devices() -> list[Attached]:
    """This machine's CPU and every device that an adapter can see, usable or not.

    An adapter that cannot look is listed too, by its scheme, with what it says as the advice.
    """
    with open_device("cpu") as device:
        cpu = device.info()
    found = [Attached(cpu.spec, f"{cpu.model} ({cpu.architecture})")]
    for scheme, name in _LISTS.items():
        try:
            found += _load(name)()
        except Exception as error:  # whatever is wrong with one link, the others can be seen
            found.append(Attached(scheme, "cannot be listed", why(error)))
    return found


def format_of(runtime: str) -> str:
    """The format of the files that a runtime loads; raises `UsageError` for an unknown one."""
    formats = _runtime_formats()
    if runtime not in formats:
        near = did_you_mean(runtime, formats)
        raise UsageError(f"unknown runtime '{runtime}'; known: {', '.join(formats)}{near}")
    return formats[runtime]


def runtimes_of(format_name: str) -> list[str]:
    """The runtimes that load a format, the preferred one first."""
    return [name for name, loaded in _runtime_formats().items() if loaded == format_name]


def _runtime_formats() -> dict[str, str]:
    """The format that each known runtime loads; of one format, the preferred runtime first."""
    formats = {name: runtime.format for name, runtime in known_runtimes().items()}
    formats[BENCHMARK] = BENCHMARK_FORMAT
    order = list(dict.fromkeys(formats.values()))
    return dict(sorted(formats.items(), key=lambda item: order.index(item[1])))


def _factory(scheme: str) -> Callable[[str], Device]:
    check_spec(scheme)
    built_in = _BUILT_IN.get(scheme)
    factory: Callable[[str], Device] = _load(built_in) if built_in else load_plugin(_GROUP, scheme)
    return factory


def _load(name: str) -> Any:
    """The object of ``module:name``."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
