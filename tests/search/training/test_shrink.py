"""The pipeline that shrinks a network: every step is measured, and it goes on where it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import lutra
from lutra.cli.main import run
from lutra.errors import CheckpointError, InfeasibleError, ResultError, TrainingError, UsageError
from lutra.search.measuring.closed_loop import find_within_budget
from lutra.search.result import SearchResult
from lutra.search.training.folder import Step
from lutra.search.training.shrink import Planned, Shrunk, plan, shrink
from lutra.search.training.steps import STEPS, Given, Surroundings
from lutra.spaces.widths import WidthSpace
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.checkpoints.network import load_network, network_in, save_network
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.images import write_idx
from tests.supernets.test_supernet import MBV3

IMAGES = 160
FEW: dict[str, Any] = {"images": 16, "calibration_images": 16, "sample_seconds": 30.0}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet of chance, some images, and a table of a scripted device."""
    folder = tmp_path_factory.mktemp("shrink")
    torch.manual_seed(0)
    save_supernet(Supernet(MBV3), folder / "supernet.pth", {})
    write_idx(folder / "images", IMAGES)
    lutra.profile("fake", MBV3, folder / "t.lut", resolutions=(20,), networks=5)
    return folder


def shrunk(room: Path, output: Path, budget_ms: float, **options: Any) -> Shrunk:
    smallest = Supernet(MBV3).smallest()
    return shrink(
        room / "supernet.pth",
        room / "images",
        room / "t.lut",
        output,
        max_latency_ms=budget_ms,
        network=smallest,
        **{**FEW, **options},
    )


@pytest.fixture(scope="module")
def pruned(room: Path) -> Path:
    """A folder in which a network was pruned to four fifths of its latency and fine-tuned."""
    start = shrunk(room, room / "start", 100.0, steps=())
    budget_ms = 0.8 * start.steps[0].latency_ms
    shrunk(room, room / "out", budget_ms, steps=("prune", "fine-tune"))
    (room / "budget").write_text(str(budget_ms))
    return room / "out"


def sensed(pruned: Path, folder: Path) -> Path:
    """A new folder with the curves that the first pruning measured, which hold for any budget."""
    folder.mkdir()
    shutil.copy(pruned / "1-prune-curves.jsonl", folder)
    return folder


def again(room: Path, output: Path, *steps: str) -> Shrunk:
    return shrunk(room, output, float((room / "budget").read_text()), steps=steps)


def test_each_step_is_measured_and_pruning_keeps_the_budget(room: Path, pruned: Path) -> None:
    found = again(room, pruned, "prune", "fine-tune")
    start, prune, tuned = found.steps
    assert [step.name for step in found.steps] == ["start", "prune", "fine-tune"]
    assert not start.within_budget
    assert prune.within_budget
    assert prune.latency_ms < 0.82 * start.latency_ms
    assert prune.predicted_ms == pytest.approx(prune.latency_ms, rel=0.1)
    assert tuned.latency_ms == pytest.approx(prune.latency_ms, rel=0.05)
    assert prune.model_bytes < start.model_bytes
    assert isinstance(lutra.get_space(network_in(pruned / prune.checkpoint).space), WidthSpace)
    assert found.best in (prune, tuned)
    assert all((pruned / step.model).is_file() for step in found.steps)


def test_it_goes_on_with_what_is_there(room: Path, pruned: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in pruned.iterdir() if file.suffix == ".pth"}
    found = again(room, pruned, "prune", "fine-tune", "cluster")
    assert [step.name for step in found.steps][-1] == "cluster"
    assert found.steps[-1].download_bytes < found.steps[-1].model_bytes
    assert {file: file.stat().st_mtime_ns for file in before} == before
    tuned = pruned / found.steps[2].checkpoint
    tuned.write_bytes(tuned.read_bytes()[:-1])  # a step whose file changed is done again
    redone = again(room, pruned, "prune", "fine-tune")
    assert len(redone.steps) == 3
    assert tuned.stat().st_mtime_ns != before[tuned]
    pruning = pruned / redone.steps[1].checkpoint
    assert pruning.stat().st_mtime_ns == before[pruning]


def test_several_prunings_go_by_equal_ratios_and_the_last_keeps_the_budget() -> None:
    planned = plan(("start", "prune", "distill", "prune", "qat"), 4.0, 1.0)
    assert [step.budget_ms for step in planned if step.name == "prune"] == [2.0, 1.0]
    labels = ["start", "prune-1-of-2", "distill", "prune-2-of-2", "qat"]
    assert [step.label for step in planned] == labels
    once = plan(("start", "prune"), 4.0, 1.0)
    assert once[1] == Planned("prune", "prune", 1.0)
    # A network within its budget is not pruned below it on the way.
    assert {step.budget_ms for step in plan(("prune", "prune"), 1.0, 3.0)} == {3.0}


def test_another_number_of_prunings_begins_anew(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = []

    def unpruned(around: Surroundings, given: Given, output: Path) -> float:
        budgets.append(around.budget_ms)
        with pytest.raises(TrainingError, match="rounds is being trained into by this very run"):
            shrunk(room, room / "rounds", 0.1, steps=("prune",))
        architecture, subnet = load_network(given.checkpoint, given.network)
        save_network(subnet, architecture, output, {})
        return around.budget_ms

    monkeypatch.setattr("lutra.search.training.shrink.STEPS", {**STEPS, "prune": unpruned})
    (start, _) = shrunk(room, room / "rounds", 0.1, steps=("prune",)).steps
    found = shrunk(room, room / "rounds", 0.1, steps=("prune", "prune"))
    assert [step.name for step in found.steps] == ["start", "prune-1-of-2", "prune-2-of-2"]
    assert found.steps[0] == start
    assert budgets == pytest.approx([0.1, (0.1 * start.predicted_ms) ** 0.5, 0.1])


def test_a_folder_of_another_pipeline_is_left_alone(room: Path, pruned: Path) -> None:
    record = (pruned / "steps.json").read_bytes()
    with pytest.raises(UsageError, match="another max latency ms"):
        shrunk(room, pruned, 1.0, steps=("prune",))
    (pruned / "steps.json").write_bytes(record[:40])
    with pytest.raises(ResultError, match="JSON"):
        again(room, pruned, "prune")
    (pruned / "steps.json").write_text("{}")
    with pytest.raises(ResultError, match="no record of `lutra shrink`"):
        again(room, pruned, "prune")
    (pruned / "steps.json").write_bytes(record)


def test_what_cannot_be_asked_is_refused_before_anything_is_made(room: Path) -> None:
    for steps, budget_ms, part in (
        (("melt",), 5.0, "no step is called 'melt'; known: prune"),
        (("prune",), -1.0, "leaves no time"),
        (("qat",), 5.0, "is of fp32, so files would not be int8"),
    ):
        with pytest.raises(UsageError, match=part):
            shrunk(room, room / "none", budget_ms, steps=steps)
        assert not (room / "none").exists()
    with pytest.raises(CheckpointError):
        shrink(room / "t.lut", room / "images", room / "t.lut", room / "none", max_latency_ms=1.0)


def test_a_budget_that_pruning_cannot_reach_says_what_it_can(
    room: Path, pruned: Path, tmp_path: Path
) -> None:
    far = sensed(pruned, tmp_path / "far")
    with pytest.raises(InfeasibleError, match="ms"):
        shrunk(room, far, 1e-3, steps=("prune",))
    assert (far / "steps.json").is_file()  # the first network's


def test_where_nothing_measured_keeps_the_budget_it_stops(
    room: Path, pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = sensed(pruned, tmp_path / "slower")

    def disturbed(*given: Any, **options: Any) -> SearchResult:
        found = find_within_budget(*given, **options, candidates=2, iterations=1)
        assert found.closed_loop is not None
        return replace(
            found,
            closed_loop=replace(found.closed_loop, kept=0),
            notes=("0 of 2 candidates keep it", "no subnet was found"),
        )

    monkeypatch.setattr("lutra.search.training.steps.find_within_budget", disturbed)
    with pytest.raises(InfeasibleError, match="0 of 2 candidates.*goes on with what is known"):
        again(room, slower, "prune")
    assert not list(slower.glob("*.pth"))


def test_the_best_keeps_the_budget() -> None:
    one = Step(
        name="a",
        checkpoint="",
        model="a.onnx",
        top1=80.0,
        low=79.0,
        high=81.0,
        images=10,
        predicted_ms=1.0,
        latency_ms=1.0,
        upper_ms=1.1,
        within_budget=False,
        model_bytes=10,
        download_bytes=10,
        seconds=0.0,
        digests={},
    )
    kept = replace(one, name="b", top1=70.0, within_budget=True)
    packed = replace(kept, name="c", download_bytes=5)
    found = Shrunk(Path(), (one, kept, packed))
    assert found.best == packed
    assert found.to_json()["best"] == "c"
    assert Shrunk(Path(), (one,)).best is None


def test_the_command_names_the_best_or_says_that_none_keeps_the_budget(
    room: Path, pruned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = room / "smallest.json"
    begun.write_text(json.dumps(Supernet(MBV3).smallest().to_json()))

    def told(budget: str, output: str) -> tuple[int, str]:
        options = {"checkpoint": "supernet.pth", "data": "images", "table": "t.lut"}
        named = [f"--{name}={room / file}" for name, file in options.items()]
        own = ["--steps=", f"--max-latency={budget}", f"--output={room / output}"]
        return run(["shrink", str(begun), *named, *own]), capsys.readouterr().err

    code, said = told("100ms", "start")
    assert code == 0
    assert f"the best within 100ms: {room / 'start' / '0-start.onnx'}" in said
    code, said = told("1us", "over")
    assert code == 3
    assert "no step keeps 1us: the nearest is start" in said
