"""Toy devices for tests of several at once: scheme ``toy``, found as another package's would be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lutra.devices.base import DeviceInfo, Outcome, RuntimeConfig, Session, TimingRequest
from lutra.devices.fake import FakeDevice, FakeScript, FakeSession
from lutra.devices.worker.runtimes import RUNTIMES
from lutra.errors import TransientDeviceError


@dataclass
class Toy:
    """What one toy does; ``dies_after`` so many visits it is gone, until that is None again."""

    script: FakeScript = field(default_factory=FakeScript)
    dies_after: int | None = None
    runtimes: tuple[str, ...] = tuple(RUNTIMES)
    advice: tuple[str, ...] = ()
    kind: str = "toy"


_TOYS: dict[str, Toy] = {}


def install_toys(folder: Path, monkeypatch: pytest.MonkeyPatch, **toys: Toy) -> None:
    """Put a package into the folder that has an entry point for ``toy``; ``toys`` are by address.

    An address that is not among them works as a toy should.
    """
    package = folder / "toys-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[lutra.devices]\ntoy = tests.toys:toy_device\n")
    monkeypatch.syspath_prepend(str(folder))
    _TOYS.clear()
    _TOYS.update(toys)


def toy_device(address: str) -> ToyDevice:
    """The device of spec ``toy:ADDRESS``."""
    return ToyDevice(address, _TOYS.get(address, Toy()))


class ToyDevice(FakeDevice):
    """A scripted device with a spec of its own."""

    def __init__(self, address: str, toy: Toy) -> None:
        super().__init__(toy.script)
        self._address = address
        self._toy = toy

    def info(self) -> DeviceInfo:
        return replace(super().info(), spec=f"toy:{self._address}", kind=self._toy.kind)

    def runtimes(self) -> tuple[str, ...]:
        return self._toy.runtimes

    def advice(self) -> tuple[str, ...]:
        return self._toy.advice

    def open(self, config: RuntimeConfig) -> Session:
        super().open(config)  # refuses what a fake device refuses
        return ToySession(self._toy, config, self.info().spec)


class ToySession(FakeSession):
    """A scripted session that may lose its device."""

    def __init__(self, toy: Toy, config: RuntimeConfig, spec: str) -> None:
        super().__init__(toy.script, config)
        self._toy = toy
        self._spec = spec

    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        for outcome in super().measure(requests):
            after = self._toy.dies_after
            if after is not None and self._toy.script.answered > after:
                raise TransientDeviceError(f"{self._spec}: it does not answer")
            yield outcome
