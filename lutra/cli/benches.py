"""Opening the device that a table was made with, for the commands that measure networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lutra.profiler.job import Bench
    from lutra.tables import LatencyTable


@contextmanager
def table_and_bench(path: Path, device_spec: str | None) -> Iterator[tuple[LatencyTable, Bench]]:
    """The table, open for writing, and its device (or the named one) with the table's setting."""
    from lutra.devices.registry import open_device
    from lutra.profiler.job import open_bench, setting_of
    from lutra.tables import LatencyTable
    from lutra.tables.profiled import device_of

    with LatencyTable.open(path, write=True) as table:
        device = open_device(device_spec or device_of(table))
        target = table.target
        with open_bench(device, setting_of(target), target.precision) as bench:
            yield table, bench
