"""Every adapter keeps the contract."""

import pytest

from lutra.devices.base import Device
from lutra.devices.cpu import CpuDevice
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.testing import DeviceContract


class TestCpu(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return CpuDevice()


class TestFake(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return FakeDevice(FakeScript())
