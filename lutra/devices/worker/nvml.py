"""What an NVIDIA GPU says of itself: read from the driver's library NVML with the package pynvml.

This file needs nothing else of ours and speaks Python 3.8, so that the text of it also runs on
another machine: ``python3 -c TEXT`` prints its GPUs as a line of JSON, ``python3 -c TEXT 0`` what
GPU 0 is and does. GPUs have the numbers of ``nvidia-smi``, which need not be CUDA's.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

_UNINITIALIZED, _NOT_LOADED, _LOST, _NEEDS_RESET, _MISMATCH, _NOT_FOUND = 1, 9, 15, 16, 18, 28
_PROBLEMS = {
    4: ("driver", "this user may not use the NVIDIA driver: check who may open /dev/nvidia*"),
    _NOT_LOADED: ("driver", "the NVIDIA driver is not loaded: `sudo modprobe nvidia`, or reboot"),
    12: (
        "driver",
        "no NVIDIA driver on this machine (libnvidia-ml.so.1 is missing): install it, or"
        " start a container with `--gpus all`",
    ),
    13: ("driver", "the NVIDIA driver is too old for nvidia-ml-py: update it"),
    _LOST: ("gpu", "the GPU has fallen off the bus; reboot the host"),
    _NEEDS_RESET: ("gpu", "the GPU must be reset: `sudo nvidia-smi --gpu-reset`, or reboot"),
    _MISMATCH: (
        "driver",
        "the NVIDIA driver and its library have different versions, as after an update:"
        " reboot, or reload the driver",
    ),
}
# After these nothing can be read any more; after any other, only this value cannot.
_GONE = frozenset({_UNINITIALIZED, _NOT_LOADED, _LOST, _NEEDS_RESET, _MISMATCH, _NOT_FOUND})

# Being idle (1) and the user's own clock setting (2, 256) hold nothing back.
_REASONS = {
    0x04: "sw power cap",
    0x08: "hw slowdown",
    0x10: "sync boost",
    0x20: "sw thermal slowdown",
    0x40: "hw thermal slowdown",
    0x80: "hw power brake",
}
_HEAT_OR_SUPPLY = frozenset(_REASONS[bit] for bit in (0x08, 0x20, 0x40, 0x80))


class NoGpu(Exception):
    """A GPU that cannot be read: the message says why, and what to try.

    ``kind`` is what is missing: "package" (pynvml: the GPU works, only watching it does not),
    "driver" or "gpu".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def throttle_reasons(mask: int) -> list[str]:
    """Names of what holds the clocks back against their setting."""
    return [name for bit, name in _REASONS.items() if mask & bit]


def slowed(reasons: list[str]) -> bool:
    """Whether heat or the supply holds the clocks back.

    The software power cap does not count: a card under load is at it for good.
    """
    return not _HEAT_OR_SUPPLY.isdisjoint(reasons)


class Gpu:
    """One GPU; what it cannot tell is None. Raises `NoGpu` when it is gone, also later on."""

    def __init__(self, index: int) -> None:
        self._nvml = _start()
        self._open = True
        try:
            self._handle = _handle(self._nvml, index)
        except BaseException:
            self.close()
            raise
        self._index = index

    def facts(self) -> dict[str, Any]:
        """What it is."""
        cuda = self._ask("nvmlSystemGetCudaDriverVersion")
        capability = self._of_gpu("nvmlDeviceGetCudaComputeCapability")
        memory = self._of_gpu("nvmlDeviceGetMemoryInfo")
        return {
            "index": self._index,
            "name": _text(self._of_gpu("nvmlDeviceGetName")),
            "uuid": _text(self._of_gpu("nvmlDeviceGetUUID")),
            "driver": _text(self._ask("nvmlSystemGetDriverVersion")),
            "cuda_driver_version": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            "compute_capability": capability and "{}.{}".format(*capability),
            "cores": self._of_gpu("nvmlDeviceGetNumGpuCores"),
            "memory_bytes": memory and memory.total,
            "max_clock_mhz": self._max_clock_mhz(),
        }

    def state(self) -> dict[str, Any]:
        """What it does now."""
        nvml = self._nvml
        power = self._of_gpu("nvmlDeviceGetPowerUsage")
        limit = self._of_gpu("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
        sensors = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
        use = self._of_gpu("nvmlDeviceGetUtilizationRates")
        memory = self._of_gpu("nvmlDeviceGetMemoryInfo")
        return {
            "clock_mhz": self.clock_mhz(),
            "max_clock_mhz": self._max_clock_mhz(),
            "memory_clock_mhz": self._of_gpu("nvmlDeviceGetClockInfo", more=[nvml.NVML_CLOCK_MEM]),
            "power_w": None if power is None else power / 1000,
            "power_limit_w": None if limit is None else limit / 1000,
            "temperature_c": self._of_gpu(*sensors, more=[nvml.NVML_TEMPERATURE_GPU]),
            "utilization_percent": use and use.gpu,
            "free_bytes": memory and memory.free,
            "throttle_reasons": self.throttle_reasons(),
            "processes": self.processes(),
        }

    def clock_mhz(self) -> float | None:
        """The clock of its cores now: one quick reading."""
        clock: int | None = self._of_gpu("nvmlDeviceGetClockInfo", more=[self._nvml.NVML_CLOCK_SM])
        return clock

    def _max_clock_mhz(self) -> float | None:
        clock: int | None = self._of_gpu(
            "nvmlDeviceGetMaxClockInfo", more=[self._nvml.NVML_CLOCK_SM]
        )
        return clock

    def throttle_reasons(self) -> list[str]:
        """Names of what holds its clocks back now."""
        mask = self._of_gpu(
            "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
        )
        return throttle_reasons(mask or 0)

    def processes(self) -> list[dict[str, Any]]:
        """The processes that compute on it, in order of their ids; ids are the host's."""
        return [
            {
                "pid": process.pid,
                "name": _text(self._ask("nvmlSystemGetProcessName", with_=[process.pid])),
                "memory_bytes": process.usedGpuMemory,
            }
            for process in self._running()
        ]

    def pids(self) -> frozenset[int]:
        """The ids of its `processes`."""
        return frozenset(process.pid for process in self._running())

    def _running(self) -> list[Any]:
        name = "nvmlDeviceGetComputeRunningProcesses"
        found = self._of_gpu(f"{name}_v3", f"{name}_v2", name) or []
        return sorted(found, key=lambda process: process.pid)

    def close(self) -> None:
        """Let go of NVML; safe to call twice."""
        if self._open:
            self._open = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _of_gpu(self, *names: str, more: list[Any] | None = None) -> Any:
        return self._ask(*names, with_=[self._handle, *(more or [])])

    def _ask(self, *names: str, with_: list[Any] | None = None) -> Any:
        """The answer of the first function that pynvml and the driver know; None without any."""
        nvml = self._nvml
        mismatch = getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError)  # is no NVMLError
        for name in names:
            if not hasattr(nvml, name):
                continue
            try:
                return getattr(nvml, name)(*(with_ or []))
            except (nvml.NVMLError, mismatch, UnicodeDecodeError) as error:
                if getattr(error, "value", None) in _GONE:
                    raise _no_gpu(error, "gpu") from error
        return None


class OtherProcesses:
    """Whoever else computes on a GPU; made before our own process starts to.

    NVML lists the host's process ids and in a container ours is another, so ours is what
    appeared between making this and `note_own`.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._before = gpu.pids()
        self._own: frozenset[int] = frozenset()

    def note_own(self, pid: int) -> None:
        """Our process, ``pid`` to itself, uses the GPU from now on."""
        listed = self._gpu.pids()
        appeared = listed - self._before
        own = frozenset({pid})
        self._own = own if pid in appeared else appeared or own & listed

    def now(self) -> list[dict[str, Any]]:
        """Those of the GPU's processes that are not ours."""
        return [seen for seen in self._gpu.processes() if seen["pid"] not in self._own]


def list_gpus() -> list[dict[str, Any]]:
    """The facts of every GPU. One that is gone is left out, unless there is no other."""
    nvml = _start()
    found: list[dict[str, Any]] = []
    lost = None
    try:
        for index in range(_count(nvml)):
            try:
                with contextlib.closing(Gpu(index)) as gpu:
                    found.append(gpu.facts())
            except NoGpu as error:
                lost = error
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    if lost is not None and not found:
        raise lost
    return found


def _start() -> Any:
    """The module pynvml, initialised; whoever asks for it ends it with ``nvmlShutdown``."""
    try:
        import pynvml
    except ImportError as error:
        message = "the Python package pynvml is missing: `pip install nvidia-ml-py`"
        raise NoGpu("package", message) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _no_gpu(error, "driver") from error
    return pynvml


def _count(nvml: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        raise _no_gpu(error, "driver") from error


def _handle(nvml: Any, index: int) -> Any:
    count = _count(nvml)
    if not 0 <= index < count:
        numbers = ", ".join(str(number) for number in range(count)) or "none"
        raise NoGpu("gpu", f"there is no GPU {index}; this machine has {numbers}")
    try:
        return nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        raise _no_gpu(error, "gpu") from error


def _no_gpu(error: Any, kind: str) -> NoGpu:
    """What NVML's error means; of ``kind`` when it is none of those we know."""
    unknown = (kind, f"the NVIDIA driver says: {error} (NVML error {error.value})")
    return NoGpu(*_PROBLEMS.get(error.value, unknown))


def _text(said: Any) -> str | None:
    """A line of text; old versions of pynvml return bytes, and names may hold anything."""
    if said is None:
        return None
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return "".join(letter for letter in text if letter.isprintable()).strip()


def main(arguments: list[str]) -> None:
    """Print one line: every GPU, or the one whose number is given, or why there is none."""
    answer: dict[str, Any]
    try:
        if arguments:
            with contextlib.closing(Gpu(int(arguments[0]))) as gpu:
                answer = {"facts": gpu.facts(), "state": gpu.state()}
        else:
            answer = {"gpus": list_gpus()}
    except NoGpu as error:
        answer = {"error": str(error), "kind": error.kind}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
