"""What a process took for a model: by a real kernel, and by those that do not tell."""

import mmap
import sys
from pathlib import Path

import pytest

from lutra.devices.worker import high_water
from lutra.devices.worker.high_water import HighWater

MIB = 1 << 20
PAGE = 4096

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc tells")


def touched(mebibytes: int) -> mmap.mmap:
    """Memory of its own, every page of it resident."""
    area = mmap.mmap(-1, mebibytes * MIB)
    area[::PAGE] = b"x" * (len(area) // PAGE)
    return area


def test_loading_and_running_are_told_apart() -> None:
    touched(96).close()  # a mark from before, as of imports
    memory = HighWater()
    kept = touched(8)
    touched(48).close()
    memory.loaded()
    touched(24).close()
    grown = memory.grown()
    kept.close()
    assert grown is not None
    assert grown["peak_bytes"] == pytest.approx(56 * MIB, abs=3 * MIB)
    assert grown["running_bytes"] == pytest.approx(32 * MIB, abs=3 * MIB)


@pytest.mark.parametrize("lacking", ["_STATUS", "_CLEAR"])
def test_a_kernel_that_does_not_tell(
    lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(high_water, lacking, tmp_path / "no" / "such")
    memory = HighWater()
    memory.loaded()
    assert memory.grown() is None


def test_a_status_without_the_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t 10 kB\n")
    monkeypatch.setattr(high_water, "_STATUS", tmp_path / "status")
    memory = HighWater()
    memory.loaded()
    assert memory.grown() is None
