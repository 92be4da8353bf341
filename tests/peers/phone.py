"""An Android phone as far as adb can tell: the real adbd, a fake /sys and Android's commands."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.peers.device_files import write_phone_files
from tests.peers.machine import Machine, work_folder
from tests.peers.network import Network
from tests.peers.roots import ANDROID_LINKER, HERE, LINKERS, Architecture, emulation, phone_root

PORT = 5555
_ABI = {"amd64": "x86_64", "arm64": "arm64-v8a"}
# What Android's shell has from toybox; Debian's own commands differ in details. taskset is a shim.
_APPLETS = """
    cat chmod chown cp cut date dd df du echo env expr false find free grep head hostname id kill
    killall ln ls md5sum mkdir mktemp mount mv nc nice nohup nproc od pgrep pidof pkill printenv
    printf ps pwd readlink realpath renice rm rmdir sed seq setsid sha1sum sha256sum sleep sort
    split stat sync tail tar tee test time timeout top touch tr true umount uname uniq uptime
    usleep wc which whoami xargs
"""
_PROPERTIES = {
    "ro.board.platform": "lutra8",
    "ro.build.fingerprint": "google/test/test:14/UQ1A.240105.004/11206848:user/release-keys",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel Test",
    "ro.product.name": "test",
    "ro.soc.manufacturer": "Lutra",
    "ro.soc.model": "LT8",
}


class Phone:
    """A phone, booted on entry; its serial stays the same over reboots.

    All its adbd can do is done as root, without a key, inside its namespaces. ``files`` and
    ``sys`` are its /data/local/tmp and /sys seen from outside.
    """

    def __init__(self, architecture: Architecture = "amd64", storage_mb: int = 256) -> None:
        self.architecture = architecture
        self.storage_mb = storage_mb
        self.network = Network()
        self._cleanup = contextlib.ExitStack()
        self._root = Path()
        self._work = Path()
        self._machine: Machine | None = None

    def __enter__(self) -> Self:
        with self._cleanup:
            self._cleanup.enter_context(emulation(self.architecture))
            self._root = phone_root(self.architecture)
            self._work = self._cleanup.enter_context(work_folder("phone"))
            self._write_work()
            self._cleanup.enter_context(self.network)
            storage = self._work / "storage"
            options = f"size={self.storage_mb}m,mode=0771"
            mount = f"mount -t tmpfs -o {options} tmpfs '{storage}'"
            self._machine = Machine("phone", self.network, mount)
            self._cleanup.callback(self._machine.close)
            self.start()
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    @property
    def serial(self) -> str:
        """What ``adb connect`` and ``adb -s`` take."""
        return f"{self.network.address}:{PORT}"

    @property
    def files(self) -> Path:
        """Its /data/local/tmp. Never resolve() it: it leads through another mount namespace."""
        return self.machine.root / str(self._work / "storage").lstrip("/")

    @property
    def sys(self) -> Path:
        """Its /sys: plain files, to read and to write."""
        return self._work / "sys"

    @property
    def log(self) -> str:
        """A line for each call of a shim: its name and arguments."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    @property
    def machine(self) -> Machine:
        """What it runs on."""
        if self._machine is None:
            raise RuntimeError("the phone is not open")
        return self._machine

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return self.machine.running

    def start(self) -> None:
        """Switch it on and wait for adbd; does nothing when it is on."""
        if not self.machine.running:
            self._adbd_off.unlink(missing_ok=True)
            boot = ["sh", str(HERE / "boot_phone.sh"), str(self._root), str(self._work)]
            try:
                self.machine.boot(boot)
                self.machine.wait_for_port(PORT)
            except RuntimeError as error:
                raise RuntimeError(f"{error}: {self.boot_log}") from error

    def kill(self) -> None:
        """Kill everything on it at once; /data/local/tmp stays, as it does on a real phone."""
        self.machine.halt()

    def reboot(self) -> None:
        """Kill everything, and start again with the same serial and files."""
        self.kill()
        self.start()

    def kill_adbd(self, restart: bool = True) -> None:
        """Kill adbd alone: what it started lives on. Without ``restart`` it stays away."""
        if not restart:
            self._adbd_off.touch()
        adbd = self.adbd()
        adbd.kill()
        adbd.wait(10)

    def start_adbd(self) -> None:
        """Bring adbd back after ``kill_adbd``, and wait for it."""
        self._adbd_off.unlink(missing_ok=True)
        self.machine.wait_for_port(PORT)

    def freeze(self) -> None:
        """Stop adbd: connections stay open and answer nothing. What it started goes on."""
        self.adbd().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let adbd go on; does nothing when it is not stopped."""
        with contextlib.suppress(LookupError, psutil.NoSuchProcess):
            self.adbd().send_signal(signal.SIGCONT)

    def adbd(self) -> psutil.Process:
        """The process of adbd, in the host's eyes; LookupError when there is none."""
        number = (self._work / "state/adbd.pid").read_text().strip()
        for process in self.machine.processes():
            if number and _number_inside(process.pid) == number:
                return process
        raise LookupError("adbd is not running")

    def heal(self) -> None:
        """Make it as new: running, linked, empty, with every value as at first."""
        self.network.up()
        self.thaw()
        self.start()
        self.start_adbd()
        self._kill_programs()
        for path in self.files.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._write_values()

    def set_property(self, name: str, value: str) -> None:
        """What ``getprop NAME`` prints."""
        self._properties[name] = value
        lines = (f"{name}={value}\n" for name, value in sorted(self._properties.items()))
        (self._work / "state/properties").write_text("".join(lines))

    def set_thermal_status(self, status: int) -> None:
        """``dumpsys thermalservice``: 0 none, 1 light, 2 moderate, 3 severe .. 6 shutdown."""
        self.set_dumpsys("thermalservice", _thermalservice(status))

    def set_battery(
        self, level: int = 87, temperature_c: float = 28.1, usb_powered: bool = True
    ) -> None:
        """``dumpsys battery``."""
        self.set_dumpsys("battery", _battery(level, temperature_c, usb_powered))

    def set_dumpsys(self, service: str, text: str | None) -> None:
        """What ``dumpsys SERVICE`` prints; None for a service that there is not."""
        file = self._work / "state/dumpsys" / service
        file.unlink(missing_ok=True) if text is None else file.write_text(text)

    def setting(self, name: str, namespace: str = "global") -> str | None:
        """The value that ``settings put`` (or ``svc power stayon``) left; None without one."""
        file = self._work / "state/settings" / namespace / name
        return file.read_text().rstrip("\n") if file.exists() else None

    @property
    def shims(self) -> Path:
        """Its /system/bin: a test may take a command away or put one in."""
        return self._work / "bin"

    @property
    def boot_log(self) -> str:
        """What process 1 and adbd said."""
        file = self._work / "state/boot.log"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def _log_file(self) -> Path:
        return self._work / "state/log"

    @property
    def _adbd_off(self) -> Path:
        return self._work / "state/adbd_off"

    def _kill_programs(self) -> None:
        adbd = self.adbd()
        for process in self.machine.processes(recursive=True):
            if process != adbd:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _write_work(self) -> None:
        (self._work / "state").mkdir()
        (self._work / "storage").mkdir()
        (self._work / "sys").mkdir()
        (self._work / "bin").mkdir()
        shutil.copy(HERE / "shims/phone/init", self._work / "state/init")
        self._write_values()

    def _write_values(self) -> None:
        """Write all that a test can have changed; the mounted folders themselves stay."""
        for folder in (self.sys, self.shims, self._work / "state/settings"):
            _empty(folder)
        _empty(self._work / "state/dumpsys")
        write_phone_files(self._work)
        (self.shims / Path(ANDROID_LINKER).name).symlink_to(LINKERS[self.architecture])
        for applet in _APPLETS.split():
            (self.shims / applet).symlink_to("/usr/bin/toybox")
        for shim in (HERE / "shims/phone").iterdir():
            if shim.name != "init":
                shutil.copy(shim, self.shims / shim.name)
        self._log_file.unlink(missing_ok=True)
        self._properties = {**_PROPERTIES, "ro.product.cpu.abi": _ABI[self.architecture]}
        self.set_property("ro.product.cpu.abilist", _ABI[self.architecture])
        self.set_thermal_status(0)
        self.set_battery()


def _empty(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _number_inside(pid: int) -> str:
    """The process's number in its innermost namespace."""
    with contextlib.suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[-1]
    return ""


def _thermalservice(status: int) -> str:
    """As Android 14 prints it; the temperatures do not follow the status."""
    readings = (
        "\tTemperature{mValue=36.5, mType=0, mName=BIG, mStatus=0}\n"
        "\tTemperature{mValue=28.1, mType=2, mName=battery, mStatus=0}\n"
        f"\tTemperature{{mValue=29.6, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}\n"
    )
    return (
        "IsStatusOverride: false\n"
        "ThermalEventListeners:\n\tcallbacks: 2\n\tkilled: false\n\tbroadcasts count: -1\n"
        "ThermalStatusListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        f"Thermal Status: {status}\n"
        f"Cached temperatures:\n{readings}"
        "HAL Ready: true\n"
        "HAL connection:\n\tThermalHAL AIDL 1  connected: yes\n"
        f"Current temperatures from HAL:\n{readings}"
        "Current cooling devices from HAL:\n"
        "\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}\n"
        "Temperature static thresholds from HAL:\n"
        "\tTemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds="
        "[NaN, 39.0, 43.0, 45.0, 46.5, 52.0, 55.0], mColdThrottlingThresholds="
        "[NaN, NaN, NaN, NaN, NaN, NaN, NaN]}\n"
    )


def _battery(level: int, temperature_c: float, usb_powered: bool) -> str:
    values: Mapping[str, object] = {
        "AC powered": "false",
        "USB powered": str(usb_powered).lower(),
        "Wireless powered": "false",
        "Dock powered": "false",
        "Max charging current": 500_000 if usb_powered else 0,
        "Max charging voltage": 5_000_000 if usb_powered else 0,
        "Charge counter": level * 43_500,
        "status": 2 if usb_powered else 3,
        "health": 2,
        "present": "true",
        "level": level,
        "scale": 100,
        "voltage": 4187,
        "temperature": round(temperature_c * 10),
        "technology": "Li-ion",
    }
    lines = (f"  {name}: {value}\n" for name, value in values.items())
    return "Current Battery Service state:\n" + "".join(lines)
