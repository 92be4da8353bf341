"""A device that only pretends: scripted latency, drift and failures, no waiting.

It lets the protocol, the table and the command line be tested where every answer is known. By
default a model's latency grows with the size of its file, so networks cost about
what their ops do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lutra.devices.base import (
    Device,
    DeviceInfo,
    Health,
    Outcome,
    ProcessMemory,
    RequestFailure,
    RuntimeConfig,
    RuntimeInfo,
    Sample,
    Session,
    SystemShare,
    TimingRequest,
)
from lutra.devices.options import check_config
from lutra.devices.sessions.runtimes import known_runtimes, runtime_options
from lutra.errors import UsageError

_BLOCKS = 20


def latency_from_size(model: Path) -> float:
    """Milliseconds that grow with the file: 10 microseconds and 1 ns per byte."""
    return 0.01 + 1e-6 * model.stat().st_size


def memory_from_size(model: Path) -> ProcessMemory | None:
    """Three times the file, a third of it only while the model is loaded."""
    size = model.stat().st_size
    return ProcessMemory(3 * size, 2 * size)


@dataclass
class FakeScript:
    """What the fake device will do.

    ``drift`` turns the number of requests answered so far into a factor on latency (1.0: none);
    ``noise`` is the relative standard deviation of a block; ``failures`` maps a request's
    ordinal (from 0) to the failure kind it ends in. With ``keeps_models`` it is like a worker on a
    CPU. ``clock_mhz`` makes it a device that tells its clock, at
    which it works, and ``flags`` what it says was wrong, both by the requests answered so far;
    ``device_ms`` is what a model takes without the host, ``system`` what the operating system did,
    by the requests answered so far, ``memory`` what its process takes. ``processes`` counts those
    that were begun.
    """

    latency_ms: Callable[[Path], float] = latency_from_size
    drift: Callable[[int], float] = lambda _: 1.0
    noise: float = 0.001
    keeps_models: bool = False
    clock_mhz: Callable[[int], float] | None = None
    flags: Callable[[int], tuple[str, ...]] = lambda _: ()
    device_ms: Callable[[Path], float] | None = None
    system: Callable[[int], SystemShare | None] = lambda _: None
    memory: Callable[[Path], ProcessMemory | None] = memory_from_size
    failures: Mapping[int, str] = field(default_factory=dict)
    seed: int = 0
    answered: int = 0
    processes: int = 0


def fake_device(address: str) -> FakeDevice:
    """The device of spec ``fake``; raises `UsageError` if anything follows the colon."""
    if address:
        raise UsageError(f"the spec is plain 'fake', not 'fake:{address}'")
    return FakeDevice(FakeScript())


class FakeDevice(Device):
    """A scripted device; two with the same script and seed give the same numbers."""

    def __init__(self, script: FakeScript) -> None:
        self.script = script

    def info(self) -> DeviceInfo:
        return DeviceInfo("fake", "fake", "scripted device", "none", "none", 1, 0)

    def health(self) -> Health:
        return Health(load_1m=0.0, throttled=False)

    def runtimes(self) -> tuple[str, ...]:
        return tuple(known_runtimes())

    def open(self, config: RuntimeConfig) -> Session:
        check_config(config, "fake", runtime_options())
        return FakeSession(self.script, config)


class FakeSession(Session):
    """Answers from the script."""

    def __init__(self, script: FakeScript, config: RuntimeConfig) -> None:
        self._script = script
        self.keeps_models = script.keeps_models
        self.clocked = script.clock_mhz is not None
        self._config = config
        self._process = 0
        self.restart()
        self._random = np.random.default_rng(script.seed)

    def describe(self) -> RuntimeInfo:
        return RuntimeInfo(self._config.runtime, "0", "scripted", "1")

    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        for request in requests:
            ordinal = self._script.answered
            self._script.answered += 1
            yield self._answer(request, ordinal)

    def _answer(self, request: TimingRequest, ordinal: int) -> Outcome:
        if not request.model.is_file():
            message = f"there is no model {request.model}"
            return RequestFailure(request.id, "load", message, transient=False)
        match self._script.failures.get(ordinal):
            case None:
                return self._sample(request, ordinal)
            case "crash" | "timeout" | "link" as kind:
                self.restart()
                return RequestFailure(request.id, kind, f"scripted {kind}", transient=True)
            case "load" | "run" as kind:
                return RequestFailure(request.id, kind, f"scripted {kind}", transient=False)
            case other:
                raise ValueError(f"unknown failure kind in the script: {other}")

    def _sample(self, request: TimingRequest, ordinal: int) -> Sample:
        script = self._script
        latency = script.latency_ms(request.model) * script.drift(ordinal)
        return Sample(
            request.id,
            self._blocks(request.model, ordinal),
            runs_per_block=max(1, round(request.block_seconds * 1e3 / latency)),
            process=self._process,
            load_seconds=0.0,
            busy_seconds=request.seconds,
            timed_seconds=request.seconds,
            device_ms=script.device_ms(request.model) if script.device_ms else None,
            clock_mhz=script.clock_mhz(ordinal) if script.clock_mhz else None,
            flags=script.flags(ordinal),
            system=script.system(ordinal),
            memory=script.memory(request.model) if request.memory else None,
        )

    def _blocks(self, model: Path, ordinal: int) -> tuple[float, ...]:
        latency = self._script.latency_ms(model) * self._script.drift(ordinal)
        noise = 1.0 + self._script.noise * np.abs(self._random.standard_normal(_BLOCKS))
        return tuple((latency * noise).tolist())

    def restart(self) -> None:
        self._process += 1
        self._script.processes += 1

    def close(self) -> None:
        """Nothing to end."""
