"""The contract in one session, where each would start a worker; the last test closes it."""

from __future__ import annotations

import pytest

from lutra.devices.base import Device, Session
from lutra.testing import DeviceContract


class LastingContract(DeviceContract):
    """Modules provide the fixture ``lasting_device``, for a class."""

    @pytest.fixture
    def device(self, lasting_device: Device) -> Device:
        return lasting_device

    @pytest.fixture
    def session(self, lasting_session: Session) -> Session:
        """The one session."""
        return lasting_session
