"""The contract of a device adapter.

An adapter is one file that subclasses `Device` and `Session` and registers a scheme (the part of
a spec string before the first colon). It moves model files to the device and times them there; it
knows nothing of ops, tables or statistics. A session must

* answer every request with exactly one `Sample` or `RequestFailure`, in the order of requests;
* take a request only when the one before is answered, or, where models run on another machine,
  at most ``batch`` of them: what the caller does between two (it builds models, commits visits)
  would disturb a timing on the next core;
* survive its worker: a crash, a hang or a lost link is the failure of the request in hand, and
  the next request finds a fresh worker;
* never report a duration that was not measured (no zero for "could not").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

FailureKind = Literal["load", "run", "crash", "timeout", "link"]

# What a table takes (`lutra.tables.values`).
_MS, _MHZ = (1e-9, 1e12), (1e-9, 1e9)
_SECONDS, _SHARE = (0.0, 1e12), (-1e6, 1e6)
_COUNT = (0, 2**31 - 1)
_BYTES = (0, 2**62)


def _require(what: str, limits: tuple[float, float], *values: float | None) -> None:
    """Raise ValueError for a value that is known and outside the limits, or not a number."""
    for value in values:
        if value is not None and not limits[0] <= value <= limits[1]:
            raise ValueError(f"{what} {value!s:.30}")


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is. ``fingerprint`` is what makes two devices the same operating point."""

    spec: str
    kind: str
    model: str
    architecture: str
    os: str
    cores: int
    memory_bytes: int
    governor: str | None = None

    @property
    def fingerprint(self) -> dict[str, str]:
        """The fields that must agree for measurements to be comparable."""
        return {
            "device": self.kind,
            "device_model": self.model,
            "architecture": self.architecture,
            "device_cores": str(self.cores),
        }


@dataclass(frozen=True)
class Health:
    """The device's state now; None where it cannot be read."""

    load_1m: float | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None
    battery_percent: float | None = None
    throttled: bool | None = None
    power_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    other_processes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuntimeConfig:
    """How models run: what a session is opened with; ``options`` are the runtime's own.

    ``core_mask`` are the cores that a table's numbers were measured on (hexadecimal), which the
    machine that lutra runs on pins to again; empty for the adapter's choice.
    """

    runtime: str
    threads: int = 1
    batch: int = 1
    options: Mapping[str, str] = field(default_factory=dict)
    core_mask: str = ""


@dataclass(frozen=True)
class RuntimeInfo:
    """What the session really runs on: it becomes part of the table's target.

    ``options`` names those of the config's that differ from the defaults: ``xnnpack=off,...``.
    """

    name: str
    version: str
    delegate: str
    core_mask: str
    options: str = ""


@dataclass(frozen=True)
class TimingRequest:
    """Time one model file.

    At least ``min_blocks`` blocks and ``seconds`` of measuring after at most ``warmup_seconds`` of
    warming up; a block is as many runs as last ``block_seconds``, at least one. Given up after
    ``limit_seconds`` all in all. ``keep`` asks the session to keep the model loaded for the
    requests to come, as long as there is room for it. ``memory`` asks also for the memory that the
    process takes, if it tells: make it the first request after `Session.restart`.
    """

    id: int
    model: Path
    seconds: float = 0.04
    warmup_seconds: float = 0.02
    block_seconds: float = 0.0005
    limit_seconds: float = 60.0
    min_blocks: int = 3
    keep: bool = False
    memory: bool = False


@dataclass(frozen=True)
class SystemShare:
    """What the operating system did while a model was timed.

    Shares of the time (0.5: half of it): ``waited_share``, in which the model was ready to run and
    another process had its core, ``stolen_share``, in which a host ran other virtual machines.
    ``preemptions`` are involuntary context switches, ``others_cores`` is how many cores other
    processes kept busy on average: over a short while it is counted coarsely, and may be negative.
    """

    waited_share: float
    stolen_share: float
    preemptions: int
    page_faults: int
    others_cores: float

    def __post_init__(self) -> None:
        _require("share", _SHARE, self.waited_share, self.stolen_share, self.others_cores)
        _require("count", _COUNT, self.preemptions, self.page_faults)


@dataclass(frozen=True)
class ProcessMemory:
    """By how many bytes a process grew at most for one model, since before it loaded it.

    ``peak_bytes`` in all, ``running_bytes`` while it ran the model, where that is told apart. What
    is resident counts, whatever it is for: weights, copies that the runtime packs of them, feature
    maps, work space, and the runtime's own code and data that were touched first for this model.
    """

    peak_bytes: int
    running_bytes: int | None = None

    def __post_init__(self) -> None:
        _require("bytes", _BYTES, self.peak_bytes, self.running_bytes)


@dataclass(frozen=True)
class Sample:
    """Blocks of runs: ``block_ms`` holds each block's milliseconds per run.

    ``process`` tells worker processes of this session apart; ``busy_seconds`` is the time the
    model ran, warm-up included, ``timed_seconds`` the part that was timed. ``nodes`` counts the
    model's operators and those that the delegate took, where the runtime tells.
    ``device_ms`` is what the device alone needed where the host may have been slower, ``clock_mhz``
    its clock meanwhile, ``flags`` what the device says was wrong (``shared``, ``throttled``),
    ``system`` what its operating system did, where it tells. ``minimum_ms`` is the fastest run,
    where it is told apart from the block that it was in. ``memory`` is what the process took, where
    it was asked for and the device tells.

    Raises ValueError for what cannot have been measured: no block, or one of no time.
    """

    id: int
    block_ms: tuple[float, ...]
    runs_per_block: int
    process: int
    load_seconds: float
    busy_seconds: float
    timed_seconds: float
    nodes: tuple[int, int] | None = None
    device_ms: float | None = None
    clock_mhz: float | None = None
    flags: tuple[str, ...] = ()
    system: SystemShare | None = None
    minimum_ms: float | None = None
    memory: ProcessMemory | None = None

    def __post_init__(self) -> None:
        if not self.block_ms:
            raise ValueError("no blocks")
        _require("milliseconds", _MS, *self.block_ms, self.device_ms, self.minimum_ms)
        _require("seconds", _SECONDS, self.load_seconds, self.busy_seconds, self.timed_seconds)
        _require("MHz", _MHZ, self.clock_mhz)
        _require("count", (1, _COUNT[1]), self.runs_per_block)
        _require("count", _COUNT, *(self.nodes or ()))


@dataclass(frozen=True)
class RequestFailure:
    """One request that could not be measured; ``transient`` when a retry may help."""

    id: int
    kind: FailureKind
    message: str
    transient: bool


Outcome = Sample | RequestFailure


class Session(ABC):
    """A runtime on a device, ready to time model files; a context manager.

    ``batch`` is how many requests one call of `measure` may be handed, and may take before it
    answers the first. A session that ``keeps_models`` loaded can time many in turns, each for a
    moment. One that is ``clocked`` tells the device's clock with each sample. One that
    ``sends_models`` runs them on another machine: of a model only the file itself gets there.
    """

    keeps_models: bool = False
    batch: int = 1
    clocked: bool = False
    sends_models: bool = False

    def throttled(self) -> bool:
        """Whether the device says that it holds its clocks back now; asked after each batch."""
        return False

    @abstractmethod
    def describe(self) -> RuntimeInfo:
        """The runtime in use; raises `PermanentDeviceError` when it cannot be had."""

    @abstractmethod
    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        """Time the requests in order; yields one outcome for each as it arrives."""

    @abstractmethod
    def restart(self) -> None:
        """Go on in a fresh process: address layout and allocator state are drawn anew."""

    @abstractmethod
    def close(self) -> None:
        """End the worker and remove what was left on the device; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Attached:
    """A device that was found without opening it; ``advice`` says how to make it usable."""

    spec: str
    what: str
    advice: str = ""


class Device(ABC):
    """One attached device; a context manager that closes it."""

    @abstractmethod
    def info(self) -> DeviceInfo:
        """What the device is."""

    @abstractmethod
    def health(self) -> Health:
        """The device's state now."""

    @abstractmethod
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes installed on it; whether one works, a session's `describe` says."""

    def advice(self) -> tuple[str, ...]:
        """What a person should know or do before measuring on it, one sentence each."""
        return ()

    def close(self) -> None:  # noqa: B027  (most have nothing to let go of)
        """Let go of what is held to the device outside of sessions; it can be used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def open(self, config: RuntimeConfig) -> Session:
        """Start a session; raises `DeviceError` or, for an impossible config, `UsageError`."""
