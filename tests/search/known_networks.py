"""A scripted device that may treat networks which its table does not know otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lutra.devices.fake import FakeDevice, latency_from_size
from tests.machines import machine


class KnownNetworks:
    """The sizes of all files that a table of the device was made with."""

    def __init__(self) -> None:
        self._sizes: set[int] = set()

    def device_of_table(self) -> FakeDevice:
        """To make the table with."""

        def latency_ms(model: Path) -> float:
            self._sizes.add(model.stat().st_size)
            return latency_from_size(model)

        return FakeDevice(replace(machine(), latency_ms=latency_ms))

    def device_where(self, factor: Callable[[str], float]) -> FakeDevice:
        """On which networks that the table does not know take ``factor(name)`` times as long."""

        def latency_ms(model: Path) -> float:
            size = model.stat().st_size
            return latency_from_size(model) * (1.0 if size in self._sizes else factor(str(size)))

        return FakeDevice(replace(machine(noise=0.003), latency_ms=latency_ms))
