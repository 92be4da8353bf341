"""Linux machines over SSH: the worker under their own Python, benchmark_model without, GPUs."""

from __future__ import annotations

import contextlib
from functools import cached_property

from lutra.devices.base import Device, DeviceInfo, Health, RuntimeConfig, Session
from lutra.devices.benchmark_model.flags import OPTIONS, RUNTIME
from lutra.devices.cuda import GpuReport, parse_index
from lutra.devices.options import CORES, PYTHON, check_config
from lutra.devices.remote.cores import chosen_cores
from lutra.devices.remote.device_state import hold_clocks
from lutra.devices.remote.folder import RemoteFolder
from lutra.devices.remote.shell import quoted
from lutra.devices.remote.ssh.shell import SshShell
from lutra.devices.remote.workspace import WorkspaceSpec
from lutra.devices.sessions.board_python import (
    DEFAULT_PYTHON,
    BoardPython,
    ask_python,
    install_line,
)
from lutra.devices.sessions.board_session import NVML_READER, BoardSession, gpu_files
from lutra.devices.sessions.runtimes import known_runtimes, runtime_options
from lutra.devices.shell_device import ShellDevice
from lutra.devices.worker.runtimes import CUDA_RUNTIMES
from lutra.errors import PermanentDeviceError

_FOLDER = '"${TMPDIR:-/tmp}"'
_GPU_SEPARATOR = "/cuda:"
_READ_SECONDS = 30.0


def ssh_device(address: str) -> Device:
    """The device of spec ``ssh:user@host[:port]``, or with ``/cuda:N`` behind it that host's GPU.

    Raises `UsageError` for another form.
    """
    return SshCudaDevice(address) if _GPU_SEPARATOR in address else SshDevice(address)


def gpu_spec(spec: str, index: str) -> str:
    """The spec of a GPU of the machine that an ``ssh:`` spec names."""
    return f"{spec}{_GPU_SEPARATOR}{parse_index(index)}"


class SshDevice(ShellDevice[SshShell]):
    """A Linux machine that sshd runs on."""

    android = False

    def __init__(self, address: str) -> None:
        super().__init__(SshShell(address))

    def info(self) -> DeviceInfo:
        facts = self.facts
        return DeviceInfo(
            spec=self.spec,
            kind="board",
            model=facts.first("board") or facts.processor or "Linux machine",
            architecture=facts.first("machine") or "unknown",
            os=facts.first("kernel") or "Linux",
            cores=len(facts.cores),
            memory_bytes=facts.memory_bytes,
            governor=facts.governor,
        )

    def python(self, command: str = DEFAULT_PYTHON) -> BoardPython:
        """What a Python of the board offers; raises `DeviceError` when it cannot be asked."""
        return ask_python(self.connected_shell(), command)

    def python_of(self, config: RuntimeConfig) -> BoardPython:
        """The Python that a config names, or the board's own."""
        return self.python(config.options.get("python", DEFAULT_PYTHON))

    @cached_property
    def _default_python(self) -> BoardPython:
        return self.python()

    def advice(self) -> tuple[str, ...]:
        facts = self.facts
        python = self._default_python
        found = [python.advice] if python.advice else []
        if not python.runtimes:
            found.append(self._benchmark_problem() or f"{RUNTIME} is used, which needs no Python")
        if facts.throttled:
            found.append("boards also throttle when their power supply is too weak: check it")
        mode = facts.first("power_mode")
        if mode is not None and not mode.startswith("MAXN"):
            found.append(
                f"its power mode is {mode}: `sudo nvpmodel -q --verbose` lists faster ones"
            )
        if facts.per_core("governor") and not facts.tunable_cores:
            found.append("this user may not hold its clocks: root may, or set them yourself")
        return tuple(found)

    def runtimes(self) -> tuple[str, ...]:
        without_python = () if self._benchmark_problem() else (RUNTIME,)
        return (*self._default_python.runtimes, *without_python)

    def open(self, config: RuntimeConfig) -> Session:
        offered = {**runtime_options(), RUNTIME: OPTIONS}
        check_config(config, self.spec, offered, {**CORES, **PYTHON})
        shell = self.connected_shell()
        cores = chosen_cores(config, self.facts, self.spec)
        workspace = WorkspaceSpec(_FOLDER, hold=hold_clocks(cores))
        if config.runtime == RUNTIME:
            return self._benchmark_session(workspace, config, self._pinned(config, cores))
        python = self.python_of(config)
        if config.runtime not in python.runtimes:
            raise PermanentDeviceError(
                f"{self.spec} cannot run {config.runtime}: {_remedy(python, config.runtime)}"
            )
        return BoardSession(
            shell, workspace, config, cores=cores, python=python.command, claim=self.claimed()
        )


def _remedy(python: BoardPython, runtime: str) -> str:
    """What to type on the board for a runtime that its Python lacks."""
    package = known_runtimes()[runtime].package.replace("_", "-")
    return python.problem or f"its {python.command} lacks it: {install_line(runtime, package)}"


class SshCudaDevice(Device):
    """The GPU of spec ``ssh:user@host[:port]/cuda:N``, N as nvidia-smi counts there."""

    def __init__(self, address: str) -> None:
        host, _, index = address.partition(_GPU_SEPARATOR)
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
        with contextlib.closing(RemoteFolder(shell, _FOLDER)) as remote:
            remote.send(files)
            folder = quoted(remote.path)
            python = f"PYTHONPATH={folder} {quoted(self._python.command)}"
            reader = f"{folder}/{NVML_READER}"
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
        missing = () if self.runtimes() else (_gpu_remedy(self._python, "torch"),)
        load, cores = self._host.health().load_1m, self._host.info().cores
        return (*missing, *self._first_report.advice(load, cores))

    def open(self, config: RuntimeConfig) -> Session:
        free = {**CORES, **PYTHON}
        check_config(config, self._spec, runtime_options(self._index), free)
        python = self._host.python_of(config)
        if python.problem:
            raise PermanentDeviceError(f"{self._spec}: {python.problem}")
        if CUDA_RUNTIMES[config.runtime].package not in python.packages:
            remedy = _gpu_remedy(python, config.runtime)
            raise PermanentDeviceError(f"{self._spec} cannot run {config.runtime}: {remedy}")
        report = self._report()
        cores = chosen_cores(config, self._host.facts, self._spec)
        return BoardSession(
            self._host.connected_shell(),
            WorkspaceSpec(_FOLDER, hold=hold_clocks(cores), claim=report.resource(self._spec)),
            config,
            cores=cores,
            python=python.command,
            cuda=self._index,
            claim=report.claim(self._spec),
        )


def _gpu_remedy(python: BoardPython, runtime: str) -> str:
    """What to type on the host for a runtime that its Python lacks."""
    line = install_line(runtime, CUDA_RUNTIMES[runtime].install)
    return f"its {python.command} lacks {runtime}: {line}"
