"""Every adapter keeps the contract."""

import pytest

from lutra.devices.base import Device
from lutra.devices.cpu import CpuDevice
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.testing import DeviceContract
from tests.devices.lasting import LastingContract


@pytest.fixture(scope="class")
def lasting_device() -> Device:
    return CpuDevice()


class TestCpu(LastingContract):
    """This machine."""


class TestFake(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return FakeDevice(FakeScript())
