"""A calibrated table, made once."""

import shutil
from pathlib import Path

import pytest

from lutra.profiler.networks.calibration import calibrate


@pytest.fixture(scope="session")
def calibrated_once(profiled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the scripted device, calibrated; copy it, do not write to it."""
    path = Path(shutil.copy(profiled_once, tmp_path_factory.mktemp("calibrated")))
    fitted = calibrate(path, networks=12)
    assert fitted.networks == 12
    assert fitted.cv_mape_percent < 0.5 < fitted.sum_mape_percent
    return path


@pytest.fixture
def calibrated(calibrated_once: Path, tmp_path: Path) -> Path:
    """A calibrated table of the scripted device at 224, the test's own."""
    return Path(shutil.copy(calibrated_once, tmp_path / "calibrated.lut"))
