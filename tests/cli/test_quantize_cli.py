"""`lutra quantize`, from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.elastic.supernet import Supernet
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.supernets.folders import write_images

SPACE = "ofa-mbv3-w0.25/classes=3/stem=1/r=20:28:4"
WEIGHTS = ("--checkpoint", "supernet.pt", "--data", "animals")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, one of its architectures and a folder of images, where the command runs."""
    torch.manual_seed(0)
    supernet = Supernet(SPACE)
    save_supernet(supernet, tmp_path / "supernet.pt", {})
    (tmp_path / "arch.json").write_text(json.dumps(supernet.smallest().to_json()))
    for split, count in (("train", 20), ("test", 8)):
        write_images(tmp_path / "animals" / split, ("ant", "bee", "cat"), count)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_supernet_to_trained_ranges_and_again(workplace: Path, capsys: Capture) -> None:
    trained = ("--ranges", "trained", "--epochs", "1", "--network", "n.pth")
    shown = ("--compare", "--test", "--device", "fake")
    arguments = ("quantize", "arch.json", *WEIGHTS, *trained, *shown, "-o", "m.tflite")
    found = call_json(capsys, *arguments)
    assert found["ranges"].startswith("trained in tflite's int8, moving: 1 epoch on animals")
    rows = {row["ranges"]: row for row in found["compared"]}
    assert list(rows) == ["fp32", "max", "percentile 99.99", "kl", "m.tflite"]
    assert {row["validation"]["images"] for row in rows.values()} == {6}
    assert rows["m.tflite"]["bytes"] == Path("m.tflite").stat().st_size
    for row in rows.values():  # the fake device takes what a file's size says
        assert row["latency_ms"] == pytest.approx(0.01 + 1e-6 * row["bytes"], rel=0.1)
        assert row["ci_low_ms"] <= row["latency_ms"] <= row["ci_high_ms"]
    again = ("--checkpoint", "n.pth", "--data", "animals", "--ranges", "trained", "-o", "a.tflite")
    assert call("quantize", *again) == 0
    said = capsys.readouterr()
    assert said.out == "a.tflite\n"
    assert "ranges: trained in tflite's int8" in said.err
    assert "next: lutra evaluate a.tflite --data animals --split validation" in said.err


def test_the_comparison_is_a_table(workplace: Path, capsys: Capture) -> None:
    compared = ("--compare", "--device", "fake")
    assert call("quantize", "arch.json", *WEIGHTS, *compared, "-o", "m.onnx") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "ranges"
    assert [row.split()[0] for row in rows] == ["fp32", "max", "percentile", "kl", "m.onnx"]
    assert header.split()[-4:] == ["bytes", "latency_ms", "ci_low_ms", "ci_high_ms"]
    fp32, *quantised = ([float(cell) for cell in row.split()[-4:]] for row in rows)
    assert all(row[1] < fp32[1] for row in quantised)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("arch.json", "--ranges", "trained"), 2, "holds no trained ranges: train them"),
        (("arch.json", "--percentile", "40", "--ranges", "percentile"), 2, "a percentile of 40"),
        (("arch.json", "--test"), 2, "test images are for the comparison"),
        (("arch.json", "--device", "fake"), 2, "a device is for the comparison"),
        (("arch.json", "--compare", "--device", "nowhere"), 2, "nowhere"),
        (("arch.json", "--epochs", "1"), 2, "epochs train ranges, and 'max' is a rule"),
        ((), 1, "supernet.pt is a supernet's: name one of its networks"),
    ],
)
def test_what_cannot_be(
    arguments: tuple[str, ...], code: int, says: str, workplace: Path, capsys: Capture
) -> None:
    assert call("quantize", *arguments, *WEIGHTS, "-o", "m.onnx") == code
    assert_one_line(capsys, says)
    assert not Path("m.onnx").exists()
