"""NVIDIA GPUs of this machine: the worker on the GPU, watched through NVML."""

from __future__ import annotations

import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lutra.devices.base import Attached, Device, DeviceInfo, Health, Session, Setting
from lutra.devices.cpu import CpuDevice, pinned_cores, start_worker
from lutra.devices.gpu_report import GpuReport
from lutra.devices.nvml import Gpu, NoGpu, list_gpus
from lutra.devices.runtimes import CUDA_RUNTIMES
from lutra.devices.settings import check_setting
from lutra.devices.worker_session import WorkerSession, runtime_options
from lutra.errors import PermanentDeviceError, UsageError

_PCI_VENDORS = "/sys/bus/pci/devices/*/vendor"
_NVIDIA = "0x10de"
_DISTRIBUTIONS = {"torch": "torch", "onnxruntime": "onnxruntime-gpu"}


def cuda_device(address: str) -> CudaDevice:
    """The device of spec ``cuda:N``, N as nvidia-smi counts; ``cuda`` where there is only one.

    Raises `UsageError` for another form and `PermanentDeviceError` without a usable GPU.
    """
    if not address:
        return CudaDevice(_only_index())
    return CudaDevice(parse_index(address))


def parse_index(text: str) -> int:
    """A GPU's number; raises `UsageError` for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3):
        raise UsageError(f"'{text}' is no GPU's number; the spec is cuda:0, cuda:1, ...")
    return int(text)


def attached_gpus() -> list[Attached]:
    """The GPUs that the driver shows; one whose driver does not work, with what to do."""
    try:
        found = list_gpus()
    except NoGpu as error:
        return [Attached("cuda", "NVIDIA GPU", str(error))] if _has_nvidia_card() else []
    return [Attached(f"cuda:{facts['index']}", facts["name"] or "NVIDIA GPU") for facts in found]


class CudaDevice(Device):
    """One GPU of the machine that lutra runs on."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._spec = f"cuda:{index}"

    def _report(self) -> GpuReport:
        try:
            with contextlib.closing(Gpu(self._index)) as gpu:
                return GpuReport(gpu.facts(), gpu.state())
        except NoGpu as error:
            raise PermanentDeviceError(f"{self._spec}: {error}") from error

    def info(self) -> DeviceInfo:
        host = CpuDevice().info()
        return self._report().info(self._spec, host.model, host.os)

    def health(self) -> Health:
        return self._report().health(CpuDevice().health().load_1m)

    def runtimes(self) -> tuple[str, ...]:
        return tuple(name for name in CUDA_RUNTIMES if _has_cuda_build(name))

    def advice(self) -> tuple[str, ...]:
        host = CpuDevice()
        found = self._report().advice(host.health().load_1m, host.info().cores)
        if self.runtimes():
            return found
        return ("no runtime is built for CUDA: `pip install onnxruntime-gpu`, or torch", *found)

    def open(self, setting: Setting) -> Session:
        check_setting(setting, self._spec, runtime_options(self._index))
        self._report()
        return WorkerSession(start_worker, setting, pinned_cores(setting.threads), cuda=self._index)


def _only_index() -> int:
    try:
        found = list_gpus()
    except NoGpu as error:
        raise PermanentDeviceError(f"cuda: {error}") from error
    if len(found) != 1:
        known = ", ".join(f"cuda:{facts['index']}" for facts in found) or "none"
        raise UsageError(f"'cuda' alone needs exactly one GPU; there are: {known}")
    return int(found[0]["index"])


def _has_cuda_build(runtime: str) -> bool:
    """Whether the package that is installed claims CUDA; whether it works, `describe` says."""
    try:
        found = version(_DISTRIBUTIONS[runtime])
    except PackageNotFoundError:
        return False
    return "+cpu" not in found


def _has_nvidia_card() -> bool:
    if platform.system() != "Linux":
        return False
    for path in Path("/").glob(_PCI_VENDORS.lstrip("/")):
        with contextlib.suppress(OSError):
            if path.read_text().strip() == _NVIDIA:
                return True
    return False
