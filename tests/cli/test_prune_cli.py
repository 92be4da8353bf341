"""From a supernet's network to a narrower one's file, on the command line."""

import json
from pathlib import Path

import pytest
import torch

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.profiler.profile import profile
from lutra.spaces.widths import WidthSpace
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.elastic.supernet import Supernet
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.machines import ONE_ROUND
from tests.supernets.small_data import write_small_data
from tests.supernets.test_supernet import MBV3, disturbed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet, one of its networks, a table of its narrower forms, images; read only."""
    folder = tmp_path_factory.mktemp("prune")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(MBV3)
    disturbed(supernet)
    save_supernet(supernet, folder / "s.pth", {})
    smallest = supernet.smallest()
    (folder / "a.json").write_text(json.dumps(smallest.to_json()))
    space = WidthSpace(smallest)
    device, table = FakeDevice(FakeScript()), folder / "w.lut"
    profile(device, space, table, resolutions=[smallest.r], networks=0, protocol=ONE_ROUND)
    write_small_data(folder / "stripes")
    return folder


def test_sense_search_apply_export(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    curves, result, pruned = (tmp_path / name for name in ("c.jsonl", "r.json", "p.pth"))
    weights = ("--checkpoint", folder / "s.pth", "--data", folder / "stripes")
    sense = [
        *("prune", "sense", folder / "a.json", *weights, "-o", curves, "--images", 16),
        *("--calibration-images", 8, "--judges", 10, "--plot", tmp_path / "c.svg"),
    ]
    sensed = call_json(capsys, *sense)
    assert sensed["measured"] == sensed["points"] + sensed["judges"]
    assert sensed["quality"]["judged"] == 10
    assert "out 1" in (tmp_path / "c.svg").read_text()
    again = call_json(capsys, *sense)
    assert (again["measured"], again["quality"]) == (0, sensed["quality"])

    search = ["search", folder / "w.lut", "--accuracy", curves]
    full = call_json(capsys, *search, "--max-latency", "1s")["candidates"][0]
    budget_ms = 0.7 * full["predicted_ms"]
    found = call_json(
        capsys,
        *(*search, "--max-latency", f"{budget_ms}ms", "-o", result),
        *("--evaluate", 2, *weights, "--calibration-images", 8),
    )
    assert found["algorithm"] == "exact"
    assert all(each["predicted_ms"] <= budget_ms for each in found["candidates"])
    assert "measured_accuracy" in found["candidates"][0]
    assert any("what pruning leaves" in note for note in found["notes"])

    applied = call_json(capsys, "prune", "apply", result, *weights, "-o", pruned, "--fine-tune", 1)
    assert applied["fine_tuning"].startswith("1 epoch on")
    architecture, subnet = load_network(pruned)
    assert architecture.to_json() == applied["architecture"]
    assert subnet.graph.macs == found["candidates"][0]["macs"]
    told = call_json(capsys, "export", result, "-o", tmp_path / "n.onnx", "--checkpoint", pruned)
    assert told["statistics"] == "the network's own"
    told = call_json(
        capsys, *("export", result, "-o", tmp_path / "m.onnx", "--checkpoint", folder / "s.pth")
    )
    assert "which all its subnets share" in told["statistics"]


def test_what_does_not_fit_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    curves = tmp_path / "c.jsonl"
    weights = ("--checkpoint", folder / "s.pth", "--data", folder / "stripes")
    few = ("--images", 2, "--calibration-images", 4, "-o", curves)
    assert call("prune", "sense", *weights, *few) == 2
    assert_one_line(capsys, "name one of its networks")
    assert call("prune", "sense", folder / "a.json", *weights, "-o", tmp_path / "no" / "c") == 2
    assert_one_line(capsys, "there is no folder")
    assert (
        call("prune", "apply", folder / "a.json", *weights[:2], "-o", curves, "--fine-tune", 1) == 2
    )
    assert_one_line(capsys, "fine-tuning needs training images")
    curves.write_text("something else")
    assert call("prune", "sense", folder / "a.json", *weights, *few) == 2
    assert_one_line(capsys, "they are not written over it")
