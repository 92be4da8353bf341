"""What phones and boards have in common: a shell, what they say of themselves, benchmark_model."""

from __future__ import annotations

from functools import cached_property
from typing import Generic, TypeVar

from lutra.devices.base import Device, Health, RuntimeConfig
from lutra.devices.benchmark_model.binary import find_benchmark, platform_of
from lutra.devices.benchmark_model.session import BenchmarkSession
from lutra.devices.claims import Claim, claim
from lutra.devices.remote.cores import require_taskset
from lutra.devices.remote.probe import SCRIPT, SystemFacts, parse_facts
from lutra.devices.remote.shell import Shell
from lutra.devices.remote.workspace import WorkspaceSpec
from lutra.errors import LutraError

ShellT = TypeVar("ShellT", bound=Shell)


class ShellDevice(Device, Generic[ShellT]):
    """A Linux or Android system at the other end of a shell."""

    android: bool
    """Which builds of benchmark_model it runs: Android's or Linux's."""

    def __init__(self, shell: ShellT) -> None:
        self._shell = shell

    def close(self) -> None:
        """Let go of the connection; a session that was opened does so itself."""
        self._shell.close()

    @property
    def spec(self) -> str:
        """Its name in messages."""
        return self._shell.spec

    @cached_property
    def facts(self) -> SystemFacts:
        """What the system says of itself, read once; raises `DeviceError` where it cannot be."""
        return self._read()

    def _read(self) -> SystemFacts:
        return parse_facts(self.connected_shell().run(SCRIPT).output)

    def connected_shell(self) -> ShellT:
        """Its shell, connected; raises `DeviceError` where that cannot be."""
        if not self._shell.connected:
            self._shell.connect()
        return self._shell

    def health(self) -> Health:
        self.facts = self._read()
        return self.facts.health()

    def claimed(self) -> Claim:
        """The device for one session; raises `TransientDeviceError` while it is another's.

        By what it says of itself: the same phone has other names by cable and by network.
        """
        return claim(f"device {self.facts.identity or self.spec}")

    def _benchmark_problem(self) -> str | None:
        """Why there is no benchmark_model for it; None where there is one."""
        try:
            find_benchmark(self._platform())
        except LutraError as error:
            return str(error)
        return None

    def _platform(self) -> str:
        return platform_of(self.info().architecture, android=self.android)

    def _pinned(self, config: RuntimeConfig, cores: tuple[int, ...]) -> tuple[int, ...]:
        """The cores that benchmark_model is pinned to; none where the system cannot pin."""
        return cores if require_taskset(config, self.facts, self.spec) else ()

    def _benchmark_session(
        self, workspace: WorkspaceSpec, config: RuntimeConfig, cores: tuple[int, ...]
    ) -> BenchmarkSession:
        """A session that pins to ``cores``; raises `DeviceError` without the program."""
        binary = find_benchmark(self._platform())
        return BenchmarkSession(
            self._shell, workspace, binary, config, cores=cores, claim=self.claimed()
        )
