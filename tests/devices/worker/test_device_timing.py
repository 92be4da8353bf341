"""The arithmetic of timing by a device's clock, on a device and a host clock that are scripted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.worker.device_timing import timed_by_device

HOST_MS_PER_CALL = 0.01
FULL_MHZ = 1980.0


@dataclass
class Machine:
    """Host and device on one timeline, in seconds; the device's clock rises while it works."""

    seconds: float = 0.0
    clock_mhz: float = FULL_MHZ
    rises_by: float = 0.0  # MHz per second of work
    synchronisations: int = 0

    def now(self) -> float:
        return self.seconds

    def read_clock(self) -> float:
        return self.clock_mhz

    def work(self, milliseconds: float) -> float:
        """Do work that takes this long at full clock; what it took."""
        took = milliseconds * FULL_MHZ / self.clock_mhz
        self.seconds += took / 1e3
        self.clock_mhz = min(FULL_MHZ, self.clock_mhz + self.rises_by * took / 1e3)
        return took


@dataclass
class Model:
    """A model of ``run_ms`` on the machine."""

    machine: Machine
    run_ms: float
    runs_at_once: int = 4
    replay: Any = None
    first_ms: float = 0.0
    block_runs: list[int] = field(default_factory=list)

    def milliseconds(self, runs: int) -> float:
        assert runs % self.runs_at_once == 0
        self.machine.synchronisations += 1
        self.block_runs.append(runs)
        took = self.machine.work(runs * self.run_ms)
        self.machine.seconds += HOST_MS_PER_CALL / 1e3
        extra, self.first_ms = self.first_ms, 0.0
        return (took + extra) / runs


def request(**changes: float) -> dict[str, Any]:
    usual = {"seconds": 0.05, "warmup_seconds": 1.0, "block_seconds": 0.005, "min_blocks": 3}
    return {**usual, **changes}


def answer_of(model: Model, **changes: float) -> dict[str, Any]:
    return timed_by_device(model, request(**changes), model.machine.read_clock, model.machine.now)


@given(st.floats(1e-4, 50.0), st.integers(1, 8))
def test_value_and_block_length(run_ms: float, at_once: int) -> None:
    model = Model(Machine(), run_ms, at_once)
    answer = answer_of(model)
    assert answer["block_ms"] == pytest.approx([run_ms] * len(answer["block_ms"]))
    runs = answer["runs_per_block"]
    assert runs % at_once == 0
    assert runs * run_ms >= 5.0 or runs == at_once
    assert runs == at_once or runs * run_ms < 5.0 * 2 + 2 * at_once * run_ms
    assert set(model.block_runs[-len(answer["block_ms"]) :]) == {runs}


def test_as_many_blocks_as_the_time_holds_and_never_fewer_than_three() -> None:
    short = answer_of(Model(Machine(), 0.1), seconds=0.1)
    assert len(short["block_ms"]) == pytest.approx(0.1 / 0.006, rel=0.3)
    assert len(answer_of(Model(Machine(), 200.0))["block_ms"]) == 3


def test_one_synchronisation_per_block() -> None:
    model = Model(Machine(), 0.02)
    answer_of(model)
    assert model.machine.synchronisations == len(model.block_runs)


def test_warms_up_until_the_clock_stands_still() -> None:
    machine = Machine(clock_mhz=345.0, rises_by=8000.0)  # 0.2 s to the full clock
    answer = answer_of(Model(machine, 0.1))
    assert answer["clock_mhz"] == FULL_MHZ
    assert answer["block_ms"] == pytest.approx([0.1] * len(answer["block_ms"]), rel=0.01)


def test_warm_up_ends_at_its_limit_and_the_low_clock_is_told() -> None:
    machine = Machine(clock_mhz=345.0, rises_by=300.0)
    answer = answer_of(Model(machine, 0.1), warmup_seconds=0.3)
    assert answer["clock_mhz"] < 0.6 * FULL_MHZ
    assert answer["busy_seconds"] < 0.5


def test_steady_device_is_not_warmed_longer_than_six_blocks() -> None:
    machine = Machine()
    answer = answer_of(Model(machine, 0.1))
    assert answer["busy_seconds"] - answer["timed_seconds"] < 0.1


def test_first_run_does_not_count() -> None:
    answer = answer_of(Model(Machine(), 0.1, first_ms=500.0))
    assert max(answer["block_ms"]) == pytest.approx(0.1)
    assert answer["runs_per_block"] * 0.1 >= 5.0


def test_what_the_device_alone_needs() -> None:
    machine = Machine()
    eager = Model(machine, 0.3, replay=Model(machine, 0.05))
    answer = answer_of(eager)
    assert answer["device_ms"] == pytest.approx(0.05)
    assert answer["block_ms"][0] == pytest.approx(0.3)
    assert answer_of(Model(machine, 0.3))["device_ms"] is None


def test_unknown_clock() -> None:
    model = Model(Machine(), 0.1)
    answer = timed_by_device(model, request(), lambda: None, model.machine.now)
    assert answer["clock_mhz"] is None
    assert answer["block_ms"] == pytest.approx([0.1] * len(answer["block_ms"]))
