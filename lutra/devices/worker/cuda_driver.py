"""CUDA's driver, as far as it takes to time work on a stream; neither toolkit nor torch is needed.

A runtime only hands work to a GPU and returns. So two events are recorded around the work, on the
stream that it runs on, and after one synchronisation the GPU's own clock tells what lies between
them. The context is the device's primary one, which CUDA's runtime API, and so onnxruntime, uses.

Imports only the standard library: the worker takes this file along to other machines.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_uint, c_void_p
from functools import lru_cache
from typing import Any

OUT_OF_MEMORY = 2
# After these the context is dead: every later call in the process fails, whatever it is.
FATAL = frozenset(
    (
        *(4, 46, 201, 709),  # shut down, device unavailable, no context, context destroyed
        *(214, 220, 226),  # ECC, NVLink, contained
        *(700, 702, 710, 714, 715, 716, 717, 718, 719, 721),  # a kernel went wrong
        *(806, 810, 911, 999),  # MPS server or client gone, another device's error, unknown
    )
)

_LIBRARY = "libcuda.so.1"
_L2_CACHE_SIZE = 38  # CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
_TIMED = 0  # CU_EVENT_DEFAULT
_INVALID_DEVICE = 101
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cuEventDestroy_v2": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}
_NEWER = {"cuEventElapsedTime": "cuEventElapsedTime_v2"}  # since CUDA 12.8
_HINTS = {
    OUT_OF_MEMORY: "free memory of the card, or use a smaller batch",
    34: f"{_LIBRARY} is the toolkit's stub; take its folder out of LD_LIBRARY_PATH",
    35: "the NVIDIA driver is too old for this program; update it",
    36: "the NVIDIA driver is too old for this program; update it",
    46: "another process may hold the card alone (nvidia-smi -q -d COMPUTE), or it is lost",
    100: "see whether `nvidia-smi` lists the card and CUDA_VISIBLE_DEVICES allows it; a container"
    " needs --gpus all",
    _INVALID_DEVICE: "`nvidia-smi -L` lists the cards; CUDA_VISIBLE_DEVICES may hide some",
    802: "wait until the card is ready; with NVSwitch start nvidia-fabricmanager",
    803: f"the kernel's NVIDIA module and {_LIBRARY} are of different versions; after an update of"
    " the driver, reboot",
    804: "this card cannot use the package cuda-compat; remove it, or update the driver",
    999: "nvidia-uvm may not be loaded (`nvidia-modprobe -u`); if it is, reboot",
}
_FATAL_HINT = "CUDA is lost to this process; start a new one"


class CudaError(RuntimeError):
    """A call of the driver failed; ``code`` is CUDA's number, 0 where there is no driver."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code

    @property
    def fatal(self) -> bool:
        """Whether every later call of this process fails too."""
        return self.code in FATAL


class Stream:
    """A queue of work on one device, timed by the device's own clock.

    Use it from one thread; ``handle`` is what runtimes take to queue their work there.
    """

    def __init__(self, driver: _Driver, device: int) -> None:
        self._driver = driver
        self._device = device
        context = driver.made("cuDevicePrimaryCtxRetain", device)
        driver("cuCtxSetCurrent", context)
        self.handle = driver.made("cuStreamCreate", _NON_BLOCKING)
        self._start, self._end = (driver.made("cuEventCreate", _TIMED) for _ in range(2))

    def milliseconds(self, work: Callable[[], None]) -> float:
        """What the device needed for what ``work`` queues on this stream; synchronises once."""
        self._driver("cuEventRecord", self._start, self.handle)
        work()
        self._driver("cuEventRecord", self._end, self.handle)
        self._driver("cuEventSynchronize", self._end)
        elapsed = c_float()
        self._driver("cuEventElapsedTime", byref(elapsed), self._start, self._end)
        return elapsed.value

    def synchronize(self) -> None:
        """Wait until all work queued here is done; raises the error that it ended with."""
        self._driver("cuStreamSynchronize", self.handle)

    def close(self) -> None:
        """Give everything back; no runtime may use the stream any more. Does not fail."""
        for event in (self._start, self._end):
            self._driver.code("cuEventDestroy_v2", event)
        self._driver.code("cuStreamDestroy_v2", self.handle)
        self._driver.code("cuDevicePrimaryCtxRelease_v2", self._device)


def open_stream(device_index: int) -> Stream:
    """A new stream on a device, as CUDA counts devices in this process; raises `CudaError`."""
    driver = _driver()
    return Stream(driver, driver.device(device_index))


def l2_bytes(device_index: int) -> int:
    """How large a device's L2 cache is."""
    driver = _driver()
    value = c_int()
    driver("cuDeviceGetAttribute", byref(value), _L2_CACHE_SIZE, driver.device(device_index))
    return value.value


def driver_version() -> tuple[int, int]:
    """The newest CUDA that the driver supports, such as (13, 0)."""
    value = c_int()
    _driver()("cuDriverGetVersion", byref(value))
    return value.value // 1000, value.value % 1000 // 10


class _Driver:
    """libcuda.so.1, initialised: its functions by name, with an exception for an error."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise CudaError(
                f"no NVIDIA driver on this machine ({error}); install it, or start the container"
                " with --gpus all"
            ) from error
        self._functions = {name: _function(library, name) for name in _FUNCTIONS}
        self("cuInit", 0)

    def __call__(self, name: str, *arguments: Any) -> None:
        code = self.code(name, *arguments)
        if code:
            raise CudaError(f"{name}: {self._explained(code)}", code)

    def code(self, name: str, *arguments: Any) -> int:
        """What the function returned: 0, or the error's number."""
        code: int = self._functions[name](*arguments)
        return code

    def made(self, name: str, argument: int) -> int:
        """The handle of what the function made."""
        handle = c_void_p()
        self(name, byref(handle), argument)
        return handle.value or 0

    def device(self, index: int) -> int:
        """A device's handle; raises `CudaError` where there are fewer."""
        count, device = c_int(), c_int()
        self("cuDeviceGetCount", byref(count))
        if not 0 <= index < count.value:
            raise CudaError(
                f"no CUDA device {index}, this process sees {count.value};"
                f" {_HINTS[_INVALID_DEVICE]}",
                _INVALID_DEVICE,
            )
        self("cuDeviceGet", byref(device), index)
        return device.value

    def _explained(self, code: int) -> str:
        text, name = (self._text(f"cuGetError{what}", code) for what in ("String", "Name"))
        said = f"{text or 'unknown error'} ({name or 'CUDA error'} {code})"
        hint = _HINTS.get(code, _FATAL_HINT if code in FATAL else "")
        return f"{said}; {hint}" if hint else said

    def _text(self, name: str, code: int) -> str:
        text = c_char_p()
        self.code(name, code, byref(text))
        return " ".join((text.value or b"").decode("utf-8", "replace").split())


@lru_cache
def _driver() -> _Driver:
    return _Driver()


def _function(library: ctypes.CDLL, name: str) -> Any:
    function = getattr(library, _NEWER.get(name, name), None) or getattr(library, name)
    function.argtypes = _FUNCTIONS[name]
    function.restype = c_int
    return function
