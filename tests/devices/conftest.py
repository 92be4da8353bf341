"""What tests of device adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lutra.devices.base import Device, RuntimeConfig, Session


@pytest.fixture(scope="class")
def lasting_session(lasting_device: Device) -> Iterator[Session]:
    """One session for a class, as each starts a worker, on the module's ``lasting_device``."""
    with lasting_device.open(RuntimeConfig(lasting_device.runtimes()[0])) as session:
        yield session
