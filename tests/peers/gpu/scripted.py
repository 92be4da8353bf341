"""A GPU that does as it is told: a scripted driver library that the real pynvml loads."""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pynvml

from lutra.devices.base import Device
from tests.peers import roots

SOURCE = Path(__file__).with_name("nvml.c")
SONAME = "libnvidia-ml.so.1"
SERVER: dict[str, object] = {
    "gpus": 1,
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-00000000-1111-2222-3333-444444444444",
    "driver": "580.65.06",
    "cuda_version": 13000,
    "compute_capability": "9.0",
    "cores": 16896,
    "clock_mhz": 1755,
    "max_clock_mhz": 1980,
    "memory_clock_mhz": 2619,
    "power_mw": 310_500,
    "power_limit_mw": 700_000,
    "temperature_c": 41,
    "utilization_percent": 0,
    "throttle": "0",
    "memory_total": 80 << 30,
    "memory_free": 79 << 30,
    "processes": "",
}


def available() -> str | None:
    """What is missing here to script a GPU, in a line; None when nothing is."""
    return None if sys.platform == "linux" else "scripted GPUs need linux"


@cache
def library() -> Path:
    """The scripted libnvidia-ml.so.1, compiled on first use and cached."""
    return roots.shared_library(SOURCE, SONAME)


def advice_of(device: Device) -> list[str]:
    """A device's advice, without the host's load: other tests and programs make that."""
    return [sentence for sentence in device.advice() if not sentence.startswith("load ")]


class ScriptedGpu:
    """The machine's GPUs as the driver's library tells of them; keys are nvml.c's.

    At first one idle server card. What is set to None the card does not support; ``key_1`` is for
    GPU 1 alone.
    """

    def __init__(self, folder: Path) -> None:
        self._library = library()
        self._script = folder / "nvml.script"
        self._state: dict[str, object] = {}
        self.reset()

    def reset(self) -> None:
        """Make it as new."""
        self._state = dict(SERVER)
        self.set()

    def set(self, **state: object) -> None:
        """Change its state, all at once, for every process that watches it."""
        self._state.update(state)
        lines = [f"{key}={value}\n" for key, value in self._state.items() if value is not None]
        partial = self._script.with_suffix(".partial")
        partial.write_text("".join(lines), errors="surrogateescape")
        partial.replace(self._script)

    def environment(self) -> dict[str, str]:
        """The variables with which a child process finds it."""
        folders = [str(self._library.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(folders),
            "NVML_SCRIPT": str(self._script),
        }

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """Have pynvml find it in this process; afterwards it was never there.

        RuntimeError where the process holds the real library already.
        """
        before = os.environ.get("NVML_SCRIPT")
        os.environ["NVML_SCRIPT"] = str(self._script)
        _forget_library()
        own = ctypes.CDLL(str(self._library))  # loaded once, it is found by its SONAME
        found = ctypes.CDLL(SONAME)
        try:
            if found._handle != own._handle:
                raise RuntimeError(f"another {SONAME} is loaded in this process")
            yield
        finally:
            _forget_library()
            for handle in (found, own):
                _ctypes.dlclose(handle._handle)
            os.environ.pop("NVML_SCRIPT")
            if before is not None:
                os.environ["NVML_SCRIPT"] = before


def _forget_library() -> None:
    """Have pynvml load its library anew, and end what was left initialised."""
    held = pynvml.nvmlLib
    pynvml.nvmlLib, pynvml._nvmlLib_refcount = None, 0
    pynvml._nvmlGetFunctionPointer_cache.clear()
    if held is not None:
        _ctypes.dlclose(held._handle)
