"""Fixtures that many tests share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lutra.devices import claims
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.profiler.profile import profile
from lutra.search.find import find_networks
from lutra.search.result import SearchResult
from tests.hollow import hollow_networks

pytest_plugins = ["tests.parallel", "tests.peers.fixtures", "tests.peers.gpu.fixtures"]

SPACE = "ofa-mbv3-w1.0"
SMALL_SPACE = "ofa-mbv3-fashion"

# Machines are slow at times: tests are not timed. The same examples in each run: whoever changes
# something is told of what the change broke. Others are searched by --hypothesis-profile=search.
# Fixtures that examples share are folders, which each writes anew.
settings.register_profile(
    "search",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("lutra", settings.get_profile("search"), derandomize=True)
settings.load_profile("lutra")


@pytest.fixture(scope="session", autouse=True)
def unclaimed() -> Iterator[Callable[[str], claims.Claim | str]]:
    """Tests share cores and peers, several sessions at once; how claims work is handed on."""
    with pytest.MonkeyPatch.context() as patch:
        taken = claims._taken
        patch.setattr(claims, "_taken", lambda resource: claims.Claim())
        yield taken


@pytest.fixture
def claimed(
    unclaimed: Callable[[str], claims.Claim | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores and devices are claimed as they are in use, under names of this test's own."""
    mine = f"test {os.getpid()} "
    monkeypatch.setattr(claims, "_taken", lambda resource: unclaimed(mine + resource))


@pytest.fixture(scope="module")
def hollow() -> Iterator[None]:
    """A module's scripted devices get files of networks without weights, see `hollow_networks`."""
    with hollow_networks():
        yield


@pytest.fixture(scope="session")
def profiled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the scripted device over one whole resolution; copy it, do not write to it."""
    path = tmp_path_factory.mktemp("profiled") / "fake.lut"
    summary = profile(FakeDevice(FakeScript()), SPACE, path, networks=0)
    assert summary.complete
    return path


@pytest.fixture
def table_path(profiled_once: Path, tmp_path: Path) -> Path:
    """A complete table of the scripted device at 224, the test's own."""
    return Path(shutil.copy(profiled_once, tmp_path / "fake.lut"))


@pytest.fixture(scope="session")
def searched_once(profiled_once: Path) -> SearchResult:
    """What a search of that table for networks within 20 ms finds."""
    return find_networks(profiled_once, max_latency_ms=20.0, algorithm="random")


@pytest.fixture
def result_path(searched_once: SearchResult, table_path: Path, tmp_path: Path) -> Path:
    """The file of that result, as of the test's own table beside it."""
    path = tmp_path / "result.json"
    replace(searched_once, table=str(table_path)).write(path)
    return path


@pytest.fixture(scope="session")
def precisions_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Calibrated tables of the scripted device, by precision; copy them, do not write to them.

    Its int8 models are smaller, and so faster.
    """
    folder = tmp_path_factory.mktemp("precisions")
    paths = {name: folder / f"{name}.lut" for name in ("fp32", "int8")}
    for name, path in paths.items():
        device = FakeDevice(FakeScript(noise=0.02))
        profile(device, SMALL_SPACE, path, resolutions=[28], networks=6, precision=name)
    return paths


@pytest.fixture
def precisions(precisions_once: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Calibrated tables of the scripted device, by precision, the test's own."""
    return {name: Path(shutil.copy(path, tmp_path)) for name, path in precisions_once.items()}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where it was ignored on entry (a background job)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
