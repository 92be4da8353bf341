"""Every adapter keeps the contract."""

from collections.abc import Iterator

import pytest

from lutra.devices.base import Device, RuntimeConfig, Session
from lutra.devices.cpu import CpuDevice
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.testing import DeviceContract


@pytest.fixture(scope="class")
def lasting_session() -> Iterator[Session]:
    device = CpuDevice()
    with device.open(RuntimeConfig(device.runtimes()[0])) as session:
        yield session


class TestCpu(DeviceContract):
    """In one session, as each starts a worker; the last test closes it."""

    @pytest.fixture
    def device(self) -> Device:
        return CpuDevice()

    @pytest.fixture
    def session(self, lasting_session: Session) -> Session:
        return lasting_session


class TestFake(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return FakeDevice(FakeScript())
