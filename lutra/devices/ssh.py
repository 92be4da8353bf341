"""Linux boards over SSH: the worker under the board's own Python, or benchmark_model without."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from lutra.devices.base import Device, DeviceInfo, Health, Session, Setting
from lutra.devices.benchmark_binary import find_benchmark, platform_of
from lutra.devices.benchmark_flags import OPTIONS, RUNTIME
from lutra.devices.benchmark_session import BenchmarkSession
from lutra.devices.board_session import BoardSession
from lutra.devices.foothold import Ground
from lutra.devices.known_state import hold_clocks
from lutra.devices.runtimes import RUNTIMES
from lutra.devices.settings import CORES, PYTHON, check_setting, chosen_cores, require_taskset
from lutra.devices.shell import home_path, quoted
from lutra.devices.ssh_shell import SshShell
from lutra.devices.system_probe import SCRIPT, SystemFacts, parse_facts
from lutra.devices.worker_session import runtime_options
from lutra.errors import LutraError, PermanentDeviceError
from lutra.text import last_words

FOLDER = '"${TMPDIR:-/tmp}"'
_DEFAULT_PYTHON = "python3"
_OLDEST_PYTHON = (3, 8)
_PYTHON_SECONDS = 60.0
_LIST_PACKAGES = """
import json, sys
try:
    from importlib.util import find_spec
except ImportError:
    find_spec = lambda name: None
print(json.dumps({"version": list(sys.version_info[:2]), "packages":
    [name for name in sys.argv[1:] if find_spec(name) is not None]}))
"""


def ssh_device(address: str) -> Device:
    """The device of spec ``ssh:user@host[:port]``, or with ``/cuda:N`` behind it that host's GPU.

    Raises `UsageError` for another form.
    """
    from lutra.devices.ssh_cuda import SshCudaDevice, is_gpu_address

    return SshCudaDevice(address) if is_gpu_address(address) else SshDevice(address)


@dataclass(frozen=True)
class BoardPython:
    """A Python on the board; ``problem`` says why it cannot run the worker, if it cannot."""

    command: str
    packages: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes whose packages it has."""
        if self.problem or "numpy" not in self.packages:
            return ()
        return tuple(name for name, runtime in RUNTIMES.items() if runtime.package in self.packages)

    @property
    def advice(self) -> str:
        """What to install, where it has no runtime."""
        if self.problem or self.runtimes:
            return self.problem
        missing = "numpy and a runtime" if "numpy" not in self.packages else "a runtime"
        return f"its {self.command} lacks {missing}: {install_line('litert')}"


def install_line(runtime: str) -> str:
    """What to type on a board for a runtime: systems of today refuse pip outside of a venv."""
    package = RUNTIMES[runtime].package.replace("_", "-")
    return (
        f"there, `python3 -m venv ~/lutra && ~/lutra/bin/pip install numpy {package}`; then"
        f" --runtime {runtime} --option python=~/lutra/bin/python"
    )


class SshDevice(Device):
    """A Linux machine that sshd runs on."""

    def __init__(self, address: str) -> None:
        self._shell = SshShell(address)

    def close(self) -> None:
        """Let go of the connection; a session that was opened does so itself."""
        self._shell.close()

    @cached_property
    def facts(self) -> SystemFacts:
        """What the system said of itself when it was first asked."""
        return self._read()

    def _read(self) -> SystemFacts:
        return parse_facts(self.connected_shell().run(SCRIPT).output)

    def connected_shell(self) -> SshShell:
        """Its shell, connected; raises `DeviceError` where that cannot be."""
        if not self._shell.connected:
            self._shell.connect()
        return self._shell

    def info(self) -> DeviceInfo:
        facts = self.facts
        return DeviceInfo(
            spec=self._shell.spec,
            kind="board",
            model=facts.first("board") or facts.processor or "Linux machine",
            architecture=facts.first("machine") or "unknown",
            os=facts.first("kernel") or "Linux",
            cores=len(facts.cores),
            memory_bytes=facts.memory_bytes,
            governor=facts.governor,
        )

    def health(self) -> Health:
        return self._read().health()

    def python(self, command: str = _DEFAULT_PYTHON) -> BoardPython:
        """What a Python of the board offers; raises `DeviceError` when it cannot be asked."""
        shell = self.connected_shell()
        packages = ["numpy", *(runtime.package for runtime in RUNTIMES.values())]
        words = " ".join(quoted(word) for word in ("-c", _LIST_PACKAGES, *packages))
        done = shell.run(f"{home_path(command)} {words}", _PYTHON_SECONDS)
        if done.status in (126, 127):
            return BoardPython(
                command,
                problem=f"it has no {command}: `sudo apt install python3-venv` adds one",
            )
        try:
            answer = json.loads(done.output.splitlines()[-1])
            version = tuple(answer["version"])
            found = frozenset(str(name) for name in answer["packages"])
        except (ValueError, KeyError, TypeError, IndexError):
            said = last_words(done.output)
            return BoardPython(command, problem=f"its {command} does not work: {said}")
        if version < _OLDEST_PYTHON:
            return BoardPython(command, problem=f"its {command} is older than 3.8")
        return BoardPython(command, found)

    def python_of(self, setting: Setting) -> BoardPython:
        """The Python that a setting names, or the board's own."""
        return self.python(setting.options.get("python", _DEFAULT_PYTHON))

    def advice(self) -> tuple[str, ...]:
        facts = self.facts
        python = self._default_python
        found = [python.advice] if python.advice else []
        if not python.runtimes:
            found += self._benchmark_missing() or [f"{RUNTIME} is used, which needs no Python"]
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

    @cached_property
    def _default_python(self) -> BoardPython:
        return self.python()

    def runtimes(self) -> tuple[str, ...]:
        return (*self._default_python.runtimes, *(() if self._benchmark_missing() else (RUNTIME,)))

    def _benchmark_missing(self) -> list[str]:
        """Why there is no benchmark_model for it; empty where there is one."""
        try:
            find_benchmark(self._platform())
        except LutraError as error:
            return [str(error)]
        return []

    def _platform(self) -> str:
        return platform_of(self.info().architecture, android=False)

    def open(self, setting: Setting) -> Session:
        spec = self._shell.spec
        check_setting(setting, spec, {**runtime_options(), RUNTIME: OPTIONS}, {**CORES, **PYTHON})
        shell, facts = self.connected_shell(), self.facts
        cores = chosen_cores(setting, facts, spec)
        ground = Ground(FOLDER, hold=hold_clocks(cores))
        if setting.runtime == RUNTIME:
            return BenchmarkSession(
                shell,
                ground,
                find_benchmark(self._platform()),
                setting,
                cores=cores if require_taskset(setting, facts, spec) else (),
            )
        python = self.python_of(setting)
        if setting.runtime not in python.runtimes:
            remedy = python.problem or (
                f"its {python.command} lacks it: {install_line(setting.runtime)}"
            )
            raise PermanentDeviceError(f"{spec} cannot run {setting.runtime}: {remedy}")
        return BoardSession(shell, ground, setting, cores=cores, python=python.command)
