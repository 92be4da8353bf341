"""The test class that every device adapter, ours or another's, inherits.

::

    class TestMyDevice(DeviceContract):
        @pytest.fixture
        def device(self):
            return MyDevice()

It needs pytest; nothing else of lutra imports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lutra.devices.base import Device, RequestFailure, RuntimeConfig, Sample, Session, TimingRequest
from lutra.devices.registry import format_of
from lutra.emitters.emission import Emission
from lutra.errors import UsageError
from lutra.ops import Conv, Shape
from lutra.profiler.workload import ModelStore, op_workload


class DeviceContract:
    """What a device adapter promises; subclasses provide the fixture ``device``."""

    @pytest.fixture
    def session(self, device: Device) -> Iterator[Session]:
        """A session on the device's first runtime."""
        with device.open(RuntimeConfig(device.runtimes()[0])) as session:
            yield session

    @pytest.fixture
    def model(self, device: Device, tmp_path: Path) -> Path:
        """A small model file for the device's first runtime; tens of microseconds on any."""
        emission = Emission(format_of(device.runtimes()[0]))
        return ModelStore(tmp_path, emission.format).path(
            op_workload(Conv(Shape(16, 16, 32), 32, kernel=3), emission)
        )

    def test_info_names_the_device(self, device: Device) -> None:
        info = device.info()
        assert info.spec
        assert info.model
        assert all(isinstance(value, str) and value for value in info.fingerprint.values())

    def test_fingerprint_is_the_same_twice(self, device: Device) -> None:
        assert device.info().fingerprint == device.info().fingerprint

    def test_health_can_be_read(self, device: Device) -> None:
        health = device.health()
        assert health.load_1m is None or health.load_1m >= 0
        assert health.temperature_c is None or -50 < health.temperature_c < 150
        assert all(isinstance(sentence, str) and sentence for sentence in device.advice())

    def test_unknown_runtime_is_a_usage_error(self, device: Device) -> None:
        with pytest.raises(UsageError, match="no-such-runtime"):
            device.open(RuntimeConfig("no-such-runtime"))

    def test_describes_its_runtime(self, session: Session, device: Device) -> None:
        runtime = session.describe()
        assert runtime.name == device.runtimes()[0]
        assert runtime.version
        assert isinstance(session.throttled(), bool)

    def test_answers_every_request_in_order(self, session: Session, model: Path) -> None:
        requests = [TimingRequest(number, model, seconds=0.005) for number in range(5)]
        outcomes = list(session.measure(requests))
        assert [outcome.id for outcome in outcomes] == [0, 1, 2, 3, 4]
        for outcome in outcomes:
            assert isinstance(outcome, Sample)
            assert all(duration > 0 for duration in outcome.block_ms)
            assert outcome.runs_per_block >= 1

    def test_takes_no_more_requests_ahead_than_a_batch(self, session: Session, model: Path) -> None:
        taken: list[int] = []

        def requests() -> Iterator[TimingRequest]:
            for number in range(4):
                taken.append(number)
                yield TimingRequest(number, model, seconds=0.001)

        for outcome in session.measure(requests()):
            assert taken[-1] < outcome.id + session.batch

    def test_missing_model_is_a_failure_not_an_exception(
        self, session: Session, model: Path, tmp_path: Path
    ) -> None:
        requests = [
            TimingRequest(0, tmp_path / "no such model.onnx"),
            TimingRequest(1, model, seconds=0.005),
        ]
        first, second = session.measure(requests)
        assert isinstance(first, RequestFailure)
        assert first.message
        assert isinstance(second, Sample)

    def test_restart_goes_on_in_another_process(self, session: Session, model: Path) -> None:
        (before,) = session.measure([TimingRequest(0, model, seconds=0.005)])
        session.restart()
        (after,) = session.measure([TimingRequest(0, model, seconds=0.005)])
        assert isinstance(before, Sample)
        assert isinstance(after, Sample)
        assert before.process != after.process

    def test_close_twice(self, session: Session) -> None:
        session.close()
        session.close()
