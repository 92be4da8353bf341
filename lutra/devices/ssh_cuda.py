"""NVIDIA GPUs of machines over SSH: the same worker under that machine's Python, on the GPU."""

from __future__ import annotations

import contextlib
from functools import cached_property

from lutra.devices.base import Device, DeviceInfo, Health, Session, Setting
from lutra.devices.board_session import BoardSession, gpu_files
from lutra.devices.cuda import parse_index
from lutra.devices.foothold import Ground
from lutra.devices.gpu_report import GpuReport
from lutra.devices.known_state import hold_clocks
from lutra.devices.remote_folder import RemoteFolder
from lutra.devices.runtimes import CUDA_RUNTIMES
from lutra.devices.settings import CORES, PYTHON, check_setting, chosen_cores
from lutra.devices.shell import quoted
from lutra.devices.ssh import FOLDER, BoardPython, SshDevice
from lutra.devices.worker_session import runtime_options
from lutra.errors import PermanentDeviceError

_SEPARATOR = "/cuda:"
_READ_SECONDS = 30.0


def gpu_spec(spec: str, index: str) -> str:
    """The spec of a GPU of the machine that an ``ssh:`` spec names."""
    return f"{spec}{_SEPARATOR}{parse_index(index)}"


def is_gpu_address(address: str) -> bool:
    """Whether what follows ``ssh:`` names a GPU of the host."""
    return _SEPARATOR in address


class SshCudaDevice(Device):
    """The GPU of spec ``ssh:user@host[:port]/cuda:N``, N as nvidia-smi counts there."""

    def __init__(self, address: str) -> None:
        host, _, index = address.partition(_SEPARATOR)
        self._index = parse_index(index)
        self._host = SshDevice(host)
        self._spec = gpu_spec(f"ssh:{host}", index)

    def close(self) -> None:
        """Let go of the connection."""
        self._host.close()

    @cached_property
    def _python(self) -> BoardPython:
        return self._host.python()

    @cached_property
    def _first_report(self) -> GpuReport:
        return self._report()

    def _report(self) -> GpuReport:
        """What the host's driver says, by the host's Python and our files."""
        files = gpu_files()
        if self._python.problem:
            raise PermanentDeviceError(f"{self._spec}: {self._python.problem}")
        shell = self._host.connected_shell()
        with contextlib.closing(RemoteFolder(shell, FOLDER)) as remote:
            remote.send(files)
            folder = quoted(remote.path)
            python = f"PYTHONPATH={folder} {quoted(self._python.command)}"
            reader = f"{folder}/lutra/devices/nvml.py"
            done = shell.run(f"{python} {reader} {self._index}", _READ_SECONDS)
        return GpuReport.parse(done.output, self._spec)

    def info(self) -> DeviceInfo:
        host = self._host.info()
        return self._first_report.info(self._spec, host.model, host.os)

    def health(self) -> Health:
        return self._report().health(self._host.health().load_1m)

    def runtimes(self) -> tuple[str, ...]:
        found = self._python.packages
        return tuple(name for name, item in CUDA_RUNTIMES.items() if item.package in found)

    def advice(self) -> tuple[str, ...]:
        missing = () if self.runtimes() else (_remedy(self._python, "torch"),)
        load, cores = self._host.health().load_1m, self._host.info().cores
        return (*missing, *self._first_report.advice(load, cores))

    def open(self, setting: Setting) -> Session:
        free = {**CORES, **PYTHON}
        check_setting(setting, self._spec, runtime_options(self._index), free)
        python = self._host.python_of(setting)
        if python.problem:
            raise PermanentDeviceError(f"{self._spec}: {python.problem}")
        if CUDA_RUNTIMES[setting.runtime].package not in python.packages:
            remedy = _remedy(python, setting.runtime)
            raise PermanentDeviceError(f"{self._spec} cannot run {setting.runtime}: {remedy}")
        self._report()
        cores = chosen_cores(setting, self._host.facts, self._spec)
        return BoardSession(
            self._host.connected_shell(),
            Ground(FOLDER, hold=hold_clocks(cores)),
            setting,
            cores=cores,
            python=python.command,
            cuda=self._index,
        )


def _remedy(python: BoardPython, runtime: str) -> str:
    """What to type on the host for a runtime that its Python lacks."""
    return (
        f"its {python.command} lacks {runtime}: there, `python3 -m venv ~/lutra &&"
        f" ~/lutra/bin/pip install numpy {CUDA_RUNTIMES[runtime].install}`; then"
        f" --runtime {runtime} --option python=~/lutra/bin/python"
    )
