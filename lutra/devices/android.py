"""Android devices over adb: TFLite's benchmark_model, pinned to the big cores."""

from __future__ import annotations

import re

from lutra.devices.base import Attached, DeviceInfo, RuntimeConfig, Session
from lutra.devices.benchmark_model.flags import OPTIONS, RUNTIME
from lutra.devices.options import CORES, check_config
from lutra.devices.remote.adb_shell import AdbShell, advice_for, attached
from lutra.devices.remote.cores import chosen_cores, core_mask
from lutra.devices.remote.device_state import hold_clocks, keep_awake
from lutra.devices.remote.probe import SystemFacts, fastest_cores
from lutra.devices.remote.workspace import WorkspaceSpec
from lutra.devices.shell_device import ShellDevice
from lutra.errors import PermanentDeviceError, UsageError

_FOLDER = "/data/local/tmp"
_LOW_BATTERY_PERCENT = 30.0
_WARM_C = 40.0


def android_device(address: str) -> AndroidDevice:
    """The device of spec ``adb:SERIAL``; bare ``adb`` where exactly one is attached.

    Raises `UsageError` where there are several, `DeviceError` without one that can be used.
    """
    return AndroidDevice(address or _only_serial())


def attached_devices() -> list[Attached]:
    """Every device that adb knows, usable or not, with what to do about it."""
    return [
        Attached(f"adb:{serial}", f"Android ({state})", advice_for(state))
        for serial, state in attached().items()
    ]


def _only_serial() -> str:
    devices = attached()
    if len(devices) == 1:
        return next(iter(devices))
    if not devices:
        raise PermanentDeviceError(
            "no Android device is attached: plug it in and switch on USB debugging in its"
            " developer options; `lutra devices` shows it then"
        )
    raise UsageError(
        "several Android devices are attached; name one: "
        + ", ".join(f"adb:{serial}" for serial in devices)
    )


class AndroidDevice(ShellDevice[AdbShell]):
    """One Android device."""

    android = True

    def __init__(self, serial: str) -> None:
        super().__init__(AdbShell(serial))

    def info(self) -> DeviceInfo:
        facts = self.facts
        maker, model, chip_maker, chip, release = (
            facts.first(name) or ""
            for name in (
                "ro.product.manufacturer",
                "ro.product.model",
                "ro.soc.manufacturer",
                "ro.soc.model",
                "ro.build.version.release",
            )
        )
        chip = f"{chip_maker} {chip}".strip() or facts.first("ro.board.platform") or ""
        name = f"{maker} {model}".strip() or facts.processor or "Android device"
        return DeviceInfo(
            spec=self.spec,
            kind="android",
            model=f"{name} ({chip})" if chip else name,
            architecture=facts.first("ro.product.cpu.abi") or facts.first("machine") or "unknown",
            os=f"Android {release}".strip(),
            cores=len(facts.cores),
            memory_bytes=facts.memory_bytes,
            governor=facts.governor,
        )

    def advice(self) -> tuple[str, ...]:
        problem = self._benchmark_problem()
        return (*_advice(self.facts), *([problem] if problem else []))

    def runtimes(self) -> tuple[str, ...]:
        return (RUNTIME,)

    def open(self, config: RuntimeConfig) -> Session:
        check_config(config, self.spec, {RUNTIME: OPTIONS}, CORES)
        cores = self._pinned(config, chosen_cores(config, self.facts, self.spec))
        workspace = WorkspaceSpec(_FOLDER, hold=keep_awake() + hold_clocks(cores))
        return self._benchmark_session(workspace, config, cores)


def _advice(facts: SystemFacts) -> list[str]:
    battery = facts.health().battery_percent
    tenths = facts.battery.get("temperature", "")  # of a degree
    temperature = int(tenths) / 10 if re.fullmatch("[0-9]{1,4}", tenths) else None
    found = []
    if battery is not None and battery < _LOW_BATTERY_PERCENT:
        found.append(f"battery at {battery:.0f} %: phones slow down when it is low; charge it")
    if facts.charging is False:
        found.append("it is not on power: it may sleep in the middle of a run; plug it in")
    if temperature is not None and temperature > _WARM_C:
        found.append(f"the battery is at {temperature:.0f} degC: let it cool down")
    if facts.has("taskset"):
        fastest = fastest_cores(facts, 1)
        found.append(
            f"runs are pinned to the fastest cores (one thread: core {fastest[0]}, mask"
            f" {core_mask(fastest)}); --option cores=MASK chooses others"
        )
    else:
        found.append("it has no taskset: runs cannot be pinned to its big cores")
    if not facts.tunable_cores:
        found.append("clocks cannot be held without root: visits that are too slow are repeated")
    return found
