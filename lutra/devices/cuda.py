"""NVIDIA GPUs of this machine: the worker on the GPU, watched through NVML."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lutra.devices.base import Attached, Device, DeviceInfo, Health, RuntimeConfig, Session
from lutra.devices.claims import Claim, claim
from lutra.devices.cpu import CpuDevice, load_1m, pinned_cores, start_worker
from lutra.devices.options import check_config
from lutra.devices.sessions.runtimes import runtime_options
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.devices.worker.nvml import Gpu, NoGpu, list_gpus, slowed
from lutra.devices.worker.runtimes import CUDA_RUNTIMES
from lutra.errors import PermanentDeviceError, UsageError
from lutra.files import parse_json
from lutra.text import last_words

_PCI_VENDORS = "/sys/bus/pci/devices/*/vendor"
_NVIDIA = "0x10de"
_MIB = 1 << 20
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
        return self._report().health(load_1m())

    def runtimes(self) -> tuple[str, ...]:
        return tuple(name for name in CUDA_RUNTIMES if _has_cuda_build(name))

    def advice(self) -> tuple[str, ...]:
        found = self._report().advice(load_1m(), CpuDevice().info().cores)
        if self.runtimes():
            return found
        return ("no runtime is built for CUDA: `pip install onnxruntime-gpu`, or torch", *found)

    def open(self, config: RuntimeConfig) -> Session:
        check_config(config, self._spec, runtime_options(self._index))
        report = self._report()
        cores, held = pinned_cores(config)
        with held:
            held.enter_context(report.claim(self._spec))
            return WorkerSession(
                start_worker, config, cores, cuda=self._index, claim=held.pop_all()
            )


@dataclass(frozen=True)
class GpuReport:
    """What NVML says of a GPU, here or elsewhere: the ``facts`` and ``state`` of an `nvml.Gpu`."""

    facts: dict[str, Any]
    state: dict[str, Any]

    @classmethod
    def parse(cls, text: str, spec: str) -> GpuReport:
        """What ``nvml.py N`` printed; raises `PermanentDeviceError` when it says why not."""
        try:
            answer = parse_json(text.splitlines()[-1])
            if "error" in answer:
                raise PermanentDeviceError(f"{spec}: {answer['error']}")
            report = cls(dict(answer["facts"]), dict(answer["state"]))
            report.info(spec, "", "")
            report.health(None)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            said = last_words(text)
            raise PermanentDeviceError(f"{spec}: the GPU cannot be read: {said}") from error
        return report

    def claim(self, spec: str) -> Claim:
        """The GPU for one session, by its own number; raises `TransientDeviceError` if another's.

        So a card is one device as ``cuda:0`` and over SSH.
        """
        return claim(self.resource(spec))

    def resource(self, spec: str) -> str:
        """What is claimed of the GPU."""
        return str(self.facts.get("uuid") or spec)

    def info(self, spec: str, host: str, os: str) -> DeviceInfo:
        """What the device is. The host is part of it: it launches the work."""
        facts = self.facts
        return DeviceInfo(
            spec=spec,
            kind="cuda",
            model=f"{facts['name']} on {host}",
            architecture=f"compute {facts['compute_capability']}",
            os=f"{os}, driver {facts['driver']}",
            cores=int(facts["cores"] or 0),
            memory_bytes=int(facts["memory_bytes"] or 0),
        )

    def health(self, load_1m: float | None) -> Health:
        """Its state when it was read."""
        state = self.state
        return Health(
            load_1m=load_1m,
            clock_mhz=state["clock_mhz"],
            temperature_c=state["temperature_c"],
            throttled=slowed(state["throttle_reasons"]),
            power_w=state["power_w"],
            throttle_reasons=tuple(map(str, state["throttle_reasons"])),
            other_processes=tuple(_process(item) for item in state["processes"]),
        )

    def advice(self, load_1m: float | None, host_cores: int) -> tuple[str, ...]:
        """What to do before measuring on it, and on its host, which launches the work."""
        found = []
        if load_1m is not None and load_1m > 0.5 * host_cores:
            found.append(f"load {load_1m:.1f} on its host: stop other work while measuring")
        found += [
            f"{process} computes on the same GPU: end it, or rows are flagged 'shared'"
            for process in self.health(None).other_processes
        ]
        if reasons := self.state["throttle_reasons"]:
            found.append(
                f"its clocks are held back now ({', '.join(reasons)}):"
                " `sudo nvidia-smi -lgc CLOCK` with a clock that it can hold makes it steady"
            )
        return tuple(found)


def _process(item: dict[str, Any]) -> str:
    memory = item["memory_bytes"]
    size = f", {memory // _MIB} MiB" if memory else ""
    return f"{item['name'] or 'a process'} (pid {item['pid']}{size})"


def _only_index() -> int:
    try:
        found = list_gpus()
    except NoGpu as error:
        raise PermanentDeviceError(f"cuda: {error}") from error
    if not found:
        raise PermanentDeviceError("cuda: the driver shows no GPU; `nvidia-smi` says why")
    if len(found) != 1:
        known = ", ".join(f"cuda:{facts['index']}" for facts in found)
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
