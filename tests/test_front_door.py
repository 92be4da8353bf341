"""`import lutra`: the whole job by paths or by objects, and devices that never stay open."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import lutra
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.spaces import Architecture
from tests.conftest import SPACE
from tests.toys import ToyDevice, install_toys

pytestmark = pytest.mark.usefixtures("hollow")

LIMIT_MS = 20.0


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The specs of the toy devices that were closed, in order."""
    folder = tmp_path / "toys"
    folder.mkdir()
    install_toys(folder, monkeypatch)
    specs: list[str] = []
    monkeypatch.setattr(ToyDevice, "close", lambda device: specs.append(device.info().spec))
    return specs


def test_the_whole_job_by_paths(tmp_path: Path) -> None:
    table, result_file = str(tmp_path / "fake.lut"), str(tmp_path / "result.json")
    seen: list[lutra.Progress] = []
    targets: list[object] = []
    watch = lutra.Watch(on_ready=targets.append, on_progress=seen.append)
    assert lutra.profile("fake", SPACE, table, networks=0, watch=watch).complete
    assert (len(targets), seen[-1].done) == (1, 96 * 6)
    assert lutra.calibrate(table, networks=8).networks == 8
    validation = lutra.validate(table, networks=4, rounds=2, watch=watch)
    assert validation.mape_percent < 1.0
    # Two rounds are not enough: it takes two processes. Eight known ones are visited along
    # in the two that were asked for.
    assert seen[-1].done == 4 * 4 + 8 * 2

    result = lutra.find_networks(table, max_latency_ms=LIMIT_MS, algorithm="random")
    result.write(result_file)
    verified = lutra.verify(result_file)
    assert verified.best.verified is not None
    assert lutra.SearchResult.read(result_file) == result  # the file is left as it was
    metadata = lutra.export(result_file, str(tmp_path / "model.onnx"))
    assert metadata["architecture"] == result.best.architecture.key


def test_objects_say_the_same_as_paths(table_path: Path, tmp_path: Path) -> None:
    by_path = lutra.find_networks(table_path, max_latency_ms=LIMIT_MS, algorithm="random")
    with lutra.LatencyTable.open(table_path) as table:
        by_object = lutra.find_networks(
            table,
            max_latency_ms=LIMIT_MS,
            space=lutra.get_space(SPACE),
            accuracy=lutra.load_accuracy(space=SPACE),
            algorithm="random",
        )
        predictor = lutra.EfficiencyPredictor(table, lutra.get_space(SPACE))
    assert by_object.candidates == by_path.candidates
    architecture = by_path.best.architecture
    again = lutra.EfficiencyPredictor(str(table_path), SPACE)
    assert predictor.predict_one(architecture) == again.predict_one(architecture)

    files = [tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx")]
    (tmp_path / "architecture.json").write_text(json.dumps(architecture.to_json()))
    sources: list[lutra.SearchResult | Architecture | Path]
    sources = [by_path, architecture, tmp_path / "architecture.json"]
    for source, file in zip(sources, files, strict=True):
        lutra.export(source, file)
    assert len({file.read_bytes() for file in files}) == 1


def test_a_run_that_was_stopped_goes_on_with_the_same_networks(tmp_path: Path) -> None:
    def stop(progress: lutra.Progress) -> None:
        if progress.done == 60:  # of 101, in an order of their own
            raise KeyboardInterrupt

    def networks(table: Path) -> set[str]:
        with lutra.LatencyTable.open(table) as opened:
            return {row.key for row in opened.rows("network")}

    stopped, unbroken = tmp_path / "stopped.lut", tmp_path / "unbroken.lut"
    with pytest.raises(KeyboardInterrupt):
        lutra.profile("fake", SPACE, stopped, networks=5, watch=lutra.Watch(on_progress=stop))
    assert 0 < len(networks(stopped)) < 5
    for table in (stopped, unbroken):
        lutra.profile("fake", SPACE, table, networks=5)
    assert networks(stopped) == networks(unbroken)


def test_networks_measured_with_the_ops_are_those_that_calibrate(tmp_path: Path) -> None:
    table = tmp_path / "fake.lut"
    summary = lutra.profile("fake", SPACE, table, networks=5)
    assert summary.complete
    assert (summary.workloads, summary.networks) == (96 + 5, 5)
    with lutra.LatencyTable.open(table) as made:
        rounds = {
            category: {
                visit.round for visits in made.all_visits(category).values() for visit in visits
            }
            for category in ("op", "network")
        }
        measured = {row.key for row in made.rows("network", "calibrate")}
    assert rounds["op"] == rounds["network"] == set(range(1, 7))  # the same ones, shuffled
    assert len(measured) == 5

    predictor = lutra.EfficiencyPredictor(table)
    assert predictor.calibrated
    assert predictor.stated is not None
    seen: list[lutra.Progress] = []
    fit = lutra.calibrate(table, networks=5, watch=lutra.Watch(on_progress=seen.append))
    assert (fit.networks, seen) == (5, [])  # nothing is measured again
    assert fit.composition == predictor.composition
    assert lutra.calibrate(table, networks=7).networks == 7  # two more are
    with lutra.LatencyTable.open(table) as made:
        assert measured < {row.key for row in made.rows("network", "calibrate")}


def test_a_table_may_be_open_already(table_path: Path) -> None:
    with lutra.LatencyTable.open(table_path, write=True) as table:
        lutra.calibrate(table, networks=4)
        lutra.validate(table, networks=4)
        assert lutra.EfficiencyPredictor(table).calibrated
        assert len(table.rows("network")) == 8


def test_a_budget_ends_each_of_them(table_path: Path, tmp_path: Path) -> None:
    watch = lutra.Watch(budget_seconds=0.0)
    assert lutra.profile("fake", SPACE, tmp_path / "new.lut", watch=watch).partial == 96 + 20
    with pytest.raises(lutra.TableError, match="only 0 networks could be measured"):
        lutra.calibrate(table_path, watch=watch)
    result = lutra.find_networks(table_path, max_latency_ms=LIMIT_MS, algorithm="random")
    with pytest.raises(lutra.TransientDeviceError, match="it was not reached"):
        lutra.verify(result, watch=watch)


def test_verifying_without_the_table_needs_a_device(table_path: Path) -> None:
    result = lutra.find_networks(table_path, max_latency_ms=LIMIT_MS, algorithm="random")
    table_path.unlink()
    with pytest.raises(lutra.UsageError, match=r"there is no table .*fake.lut") as raised:
        lutra.verify(result)
    assert "\n" not in str(raised.value)
    assert lutra.verify(result, device="fake").best.verified is not None


def failing(table: str) -> None:
    lutra.profile("toy:a", SPACE, table, resolutions=[225])


def impossible(table: str) -> None:
    lutra.profile("toy:a", SPACE, table, runtime="none")


def mismatched(table: str) -> None:
    lutra.profile("toy:a", SPACE, table, threads=2)


@pytest.mark.parametrize("call", [failing, impossible, mismatched])
def test_devices_are_closed_when_it_fails(
    call: Callable[[str], None], closed: list[str], tmp_path: Path
) -> None:
    table = str(tmp_path / "toy.lut")
    lutra.profile("toy:a", SPACE, table, watch=lutra.Watch(budget_seconds=0.0))
    assert closed == ["toy:a"]
    with pytest.raises((lutra.UsageError, lutra.TargetMismatchError)):
        call(table)
    assert closed == ["toy:a", "toy:a"]


def test_devices_are_closed_by_all_that_measure(closed: list[str], tmp_path: Path) -> None:
    table = tmp_path / "toy.lut"
    lutra.profile("toy:a", SPACE, table, networks=0)
    lutra.calibrate(table, networks=4)
    lutra.validate(table, networks=2, device="toy:b")
    result = lutra.find_networks(table, max_latency_ms=LIMIT_MS, algorithm="random")
    lutra.verify(result)
    lutra.export(result, tmp_path / "model.onnx")
    lutra.profile_models("toy:c", [tmp_path / "model.onnx"], tmp_path / "models.lut")
    assert closed == ["toy:a", "toy:a", "toy:b", "toy:a", "toy:c"]


def test_a_device_that_is_open_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closings: list[object] = []
    monkeypatch.setattr(FakeDevice, "close", lambda device: closings.append(device))
    with FakeDevice(FakeScript()) as device:
        watch = lutra.Watch(budget_seconds=0.0)
        lutra.profile(device, SPACE, tmp_path / "fake.lut", watch=watch)
        assert not closings
    assert closings == [device]


def test_defaults_are_those_of_the_command_line() -> None:
    """Which does not import them, so that its help stays fast."""
    from lutra.cli import calibrate, profile_space, validate
    from lutra.cli.quantities import parse_resolutions
    from lutra.profiler.profile import DEFAULT_RESOLUTIONS
    from lutra.spaces import DEFAULT_SPACE

    space = lutra.get_space(DEFAULT_SPACE)
    assert space.name == profile_space.DEFAULT_SPACE
    shown = parse_resolutions(profile_space.DEFAULT_RESOLUTIONS, space.resolutions)
    assert shown == DEFAULT_RESOLUTIONS
    for command, function in (
        (calibrate.command, lutra.calibrate),
        (validate.command, lutra.validate),
    ):
        (option,) = (item for item in command.params if item.name == "networks")
        assert option.default == inspect.signature(function).parameters["networks"].default
