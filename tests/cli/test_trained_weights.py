"""`lutra export --checkpoint` and `lutra evaluate`, from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.supernets.folders import write_images

SPACE = "ofa-mbv3-w0.25/classes=3/stem=1/r=20:28:4"
CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, one of its architectures and a folder of images, where the command runs."""
    torch.manual_seed(0)
    supernet = Supernet(SPACE)
    save_supernet(supernet, tmp_path / "supernet.pt", {})
    (tmp_path / "arch.json").write_text(json.dumps(supernet.smallest().to_json()))
    for split, count in (("train", 20), ("test", 8)):
        write_images(tmp_path / "animals" / split, CLASSES, count)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXPORT = ("export", "arch.json", "--checkpoint", "supernet.pt")


def test_from_a_checkpoint_to_the_accuracy_of_its_file(workplace: Path, capsys: Capture) -> None:
    flags = ("--data", "animals", "--fine-tune", "1", "--precision", "int8")
    metadata = call_json(capsys, *EXPORT, *flags, "-o", "m.tflite")
    assert metadata["weights"].startswith("trained: supernet.pt, SHA-256 ")
    assert metadata["statistics"] == "of 54 training images of animals"
    assert metadata["calibration"] == "54 images of animals"
    assert metadata["fine_tuning"] == "1 epoch on animals, seed 0"
    assert metadata["pixels"].startswith("RGB; (value / 255 - mean) / deviation, mean 0.485 0.456")
    found = call_json(capsys, "evaluate", "m.tflite", "--data", "animals")
    assert (found["images"], found["split"], found["resolution"]) == (24, "test", 20)
    assert 0 <= found["low"] < found["top1"] < found["high"] <= 100


def test_what_is_printed_is_the_module_s_accuracy(workplace: Path, capsys: Capture) -> None:
    assert call(*EXPORT, "--data", "animals", "-o", "m.onnx") == 0
    said = capsys.readouterr()
    assert said.out == "m.onnx\n"
    assert "statistics: of 54 training images of animals" in said.err
    assert said.err.endswith("next: lutra evaluate m.onnx --data animals --split validation\n")
    supernet = Supernet(SPACE)
    supernet.load_state_dict(torch.load("supernet.pt", weights_only=True)["state_dict"])
    subnet = supernet.subnet(supernet.smallest())
    tune_statistics(subnet, load_images("animals", "train"), 20)
    expected = top1(subnet, load_images("animals", "validation"), 20)
    assert call("evaluate", "m.onnx", "--data", "animals", "--split", "validation") == 0
    said = capsys.readouterr()
    low, high = expected.interval_percent
    assert said.out == f"top-1 {expected.percent:.2f} % ({low:.2f} to {high:.2f} % at 95 %)\n"
    assert said.err == f"{expected.correct} of 6 validation images of animals at 20\n"
    found = call_json(capsys, "evaluate", "m.onnx", "--data", "animals", "--limit", "5")
    assert found["images"] == 5


def test_notes_say_what_was_not_done(workplace: Path, capsys: Capture) -> None:
    assert call(*EXPORT, "--precision", "int8", "-o", "m.onnx") == 0
    said = capsys.readouterr().err
    assert "statistics: the supernet's own" in said
    assert "calibration: random inputs" in said


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((*EXPORT[:2], "--data", "animals"), 2, "name the supernet's file too (--checkpoint)"),
        ((*EXPORT, "--fine-tune", "1"), 2, "fine-tuning needs training images"),
        ((*EXPORT, "--calibration-data", "animals"), 2, "calibration images are for int8"),
        ((*EXPORT, "--data", "nowhere"), 1, "nowhere is not a folder"),
        ((*EXPORT, "--data", "arch.json"), 2, "is a file"),
        ((*EXPORT[:3], "arch.json"), 1, "arch.json is no PyTorch file of trained weights"),
    ],
)
def test_exports_that_cannot_be(
    arguments: tuple[str, ...], code: int, says: str, workplace: Path, capsys: Capture
) -> None:
    assert call(*arguments, "-o", "new.onnx") == code
    assert_one_line(capsys, says)
    assert not Path("new.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("m.onnx", "--data", "nowhere"), 1, "nowhere is not a folder"),
        (("none.onnx", "--data", "animals"), 1, "cannot read none.onnx: there is no such file"),
        (("arch.json", "--data", "animals"), 1, "a model file ends in one of"),
        (("m.onnx",), 2, "Missing option '--data'"),
        (("m.onnx", "--data", "animals", "--split", "exam"), 2, "'exam' is not one of"),
        (("m.onnx", "--data", "animals", "--limit", "0"), 2, "0 is not in the range"),
        (("m.onnx", "--data", "broken"), 1, "broken/test/bee/0.jpg is a broken image"),
    ],
)
def test_evaluations_that_cannot_be(
    arguments: tuple[str, ...], code: int, says: str, workplace: Path, capsys: Capture
) -> None:
    assert call("export", "arch.json", "-o", "m.onnx") == 0
    for split in ("train", "test"):
        write_images(workplace / "broken" / split, CLASSES, 2)
    (workplace / "broken/test/bee/0.jpg").write_bytes(b"nothing")
    capsys.readouterr()
    assert call("evaluate", *arguments) == code
    assert_one_line(capsys, says)
