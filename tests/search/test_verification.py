"""What verify says on another day than the table's, by networks that the table knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lutra.devices.base import RuntimeConfig
from lutra.devices.fake import FakeDevice, latency_from_size
from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import open_bench
from lutra.profiler.networks.calibration import calibrate
from lutra.profiler.profile import profile
from lutra.profiler.watch import Watch
from lutra.profiler.workload import network_workload
from lutra.search.find import find_networks, half_way_budget_ms
from lutra.search.measuring.memory import with_memory
from lutra.search.measuring.verification import verify
from lutra.search.result import SearchResult
from lutra.spaces import get_space
from tests.machines import machine

pytestmark = pytest.mark.usefixtures("hollow")

SPACE = "ofa-mbv3-w1.0"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A search on a table of a quiet day, with twelve networks in its rounds."""
    path = tmp_path_factory.mktemp("days") / "quiet.lut"
    device = FakeDevice(machine())
    profile(device, SPACE, path, resolutions=[224], networks=12)
    calibrate(path, device=device, networks=12)
    budget_ms = half_way_budget_ms(EfficiencyPredictor(path), load_accuracy(space=SPACE))
    return find_networks(path, max_latency_ms=budget_ms, algorithm="random")


def own_ms(result: SearchResult, folder: Path) -> float:
    """What the best candidate takes on the quiet day."""
    space = EfficiencyPredictor(result.table).space
    workload = network_workload(space, result.best.architecture, "", result.emission)
    assert callable(workload.model)
    (folder / "model").write_bytes(workload.model())
    return latency_from_size(folder / "model")


@pytest.mark.parametrize(("scale", "constant"), [(1.0, 0.0), (1.2, 0.3), (0.9, 0.0)])
def test_it_is_brought_to_the_day_of_the_table(
    result: SearchResult, tmp_path: Path, scale: float, constant: float
) -> None:
    assert len(result.anchors_ms) == 12
    found = verify(result, device=FakeDevice(machine(scale, constant)), count=1).best
    assert found.verified is not None
    own = own_ms(result, tmp_path)
    assert found.verified.measured_ms == pytest.approx(own, rel=0.015)
    assert found.verified.raw_ms == pytest.approx(scale * own + constant, rel=0.015)
    assert found.verified.flags == ()


def test_a_machine_that_is_twice_as_slow_is_another_one(result: SearchResult) -> None:
    found = verify(result, device=FakeDevice(machine(2.2)), count=1).best
    assert found.verified is not None
    assert found.verified.flags == ("drift",)


def test_without_networks_the_small_references_tell(result: SearchResult, tmp_path: Path) -> None:
    known = {key: ms for key, ms in result.reference_ms.items() if not key.startswith("{")}
    few = replace(result, anchors_ms={}, reference_ms=known)
    found = verify(few, device=FakeDevice(machine(1.2)), count=1).best
    assert found.verified is not None
    assert found.verified.measured_ms == pytest.approx(own_ms(result, tmp_path), rel=0.02)


def test_without_anything_known_it_says_what_it_measured(result: SearchResult) -> None:
    before = replace(result, anchors_ms={}, reference_ms={})
    found = verify(before, device=FakeDevice(machine(1.2)), count=1).best
    assert found.verified is not None
    assert found.verified.measured_ms == found.verified.raw_ms
    assert found.verified.flags == ("drift",)


def test_memory_that_is_not_told_is_null_and_said(result: SearchResult) -> None:
    notes: list[str] = []  # each reason once: who does not tell is not asked again
    script = replace(machine(), failures={0: "crash"}, memory=lambda _: None)
    space, config = get_space(result.space), RuntimeConfig(result.target.runtime)
    with open_bench(FakeDevice(script), config) as bench:
        workloads = [
            network_workload(space, candidate.architecture, "", bench.emission)
            for candidate in result.candidates[:3]
        ]
        found = with_memory(
            bench, result.candidates[:3], workloads, 1.0, Watch(on_note=notes.append)
        )
    for each in found:
        assert each.memory is not None
        assert each.memory.measured_memory_bytes is each.memory.running_memory_bytes is None
        assert each.memory.model_file_bytes > each.params
    failed, silent = notes
    assert "could not be measured: scripted crash" in failed
    assert "does not tell what memory a network takes" in silent


def test_anchors_are_kept_with_the_result(result: SearchResult, tmp_path: Path) -> None:
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json").anchors_ms == result.anchors_ms
