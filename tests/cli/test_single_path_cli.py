"""`lutra search --algorithm single-path` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lutra.supernets.training.state import hold_output
from tests.cli.test_cli import Capture, assert_one_line, call
from tests.supernets.images import write_idx

SEARCH = ("search", "t.lut", "--algorithm", "single-path")
TRAINS = (*SEARCH, "--data", "images", "--max-latency", "10s")


@pytest.fixture
def workplace(precisions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table and images, where the command runs."""
    precisions["fp32"].rename(tmp_path / "t.lut")
    write_idx(tmp_path / "images", 80)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("workplace")
def test_it_writes_a_network_and_its_course(capsys: Capture) -> None:
    capsys.readouterr()
    files = ("-o", "r.json", "--weights", "n.pth", "--curve", "c.json", "--plot", "c.svg")
    assert call(*TRAINS, "--epochs", "2", "--fine-tune", "1", "--threads", "1", *files) == 0
    said = capsys.readouterr()
    assert "measured %" in said.out
    assert "2 steps of search" in said.err
    assert said.err.endswith("next: lutra export r.json --checkpoint n.pth -o network.onnx\n")
    result = json.loads(Path("r.json").read_text())
    assert (result["algorithm"], result["settings"]["epochs"]) == ("single-path", 2)
    assert len(json.loads(Path("c.json").read_text())["steps"]) == 2
    assert "cross-entropy" in Path("c.svg").read_text()
    assert call("export", "r.json", "--checkpoint", "n.pth", "-o", "network.onnx") == 0


@pytest.mark.usefixtures("workplace")
def test_it_measures_what_it_ends_with(capsys: Capture) -> None:
    capsys.readouterr()
    short = ("--epochs", "1", "--fine-tune", "0")
    assert call(*TRAINS, *short, "--verify", "--confidence", "90", "-o", "r.json") == 0
    said = capsys.readouterr()
    assert "within budget" in said.out
    assert "1 of the 1 candidates that were measured keep 1e+04 ms with 90 % confidence" in said.err
    assert "the first one keeps the budget" in said.err
    loop = json.loads(Path("r.json").read_text())["closed_loop"]
    assert (loop["measured"], loop["kept"], loop["confidence"]) == (1, 1, 0.9)


@pytest.mark.usefixtures("workplace")
def test_one_training_at_a_time_writes_a_file(capsys: Capture) -> None:
    capsys.readouterr()
    with hold_output(Path("n.pth")):
        assert call(*TRAINS, "--weights", "n.pth") == 1
    assert_one_line(capsys, "n.pth is being trained into by this very run")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ((*SEARCH, "--max-latency", "1s"), 2, "--data FOLDER"),
        ((*SEARCH, "--data", "images"), 2, "--trade-off"),
        ((*SEARCH, "--data", "images", "--trade-off", "-1"), 2, "must be 0 or more"),
        ((*TRAINS, "--max-flops", "1M"), 2, "takes no --max-flops"),
        ((*TRAINS, "--robust", "0.1"), 2, "takes no --robust"),
        ((*TRAINS, "--device", "fake"), 2, "--device goes with --verify"),
        ((*SEARCH, "--data", "images", "--trade-off", "1", "--verify"), 2, "--verify needs"),
        ((*TRAINS, "--resolutions", "20,28"), 2, "one resolution"),
        ((*TRAINS, "--max-latency", "u.lut=5ms"), 2, "by the searched table only"),
        (("search", "t.lut", "--max-latency", "1s", "--weights", "n.pth"), 2, "goes with"),
        (("search", "t.lut", "--max-latency", "1s", "--threads", "1"), 2, "--threads goes with"),
        ((*SEARCH, "--data", "images", "--max-latency", "1us"), 1, "upper limit"),
        ((*TRAINS, "--weights", "t.lut"), 2, "a latency table"),
        ((*TRAINS, "--curve", "same", "--weights", "same"), 2, "a file of its own"),
    ],
)
def test_what_cannot_be_asked(
    arguments: tuple[str, ...], code: int, part: str, capsys: Capture
) -> None:
    capsys.readouterr()
    assert call(*arguments) == code
    assert_one_line(capsys, part)
    assert not Path("n.pth").exists()
