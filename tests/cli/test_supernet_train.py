"""`lutra supernet train` from the outside."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from lutra.supernets.checkpoints.checkpoint import load_supernet
from lutra.supernets.training import train
from lutra.supernets.training.processes import Processes
from tests.cli.test_cli import Capture, assert_one_line, call
from tests.supernets.images import write_idx

SPACE = "ofa-mbv3-w0.25/classes=4/channels=1/r=16:16:4"
OPTIONS = ("--method", "sandwich", "--epochs", 1, "--batch", 18, "--threads", 1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("images"), 40, classes=4, size=16)


def test_train(images: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "trained"
    command = ("supernet", "train", "--space", SPACE, "--data", images, "-o", output, *OPTIONS)
    assert call(*command) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split() == ["network", "validation", "top-1", "%"]
    assert "epoch 1/1 (sandwich): loss " in captured.err
    assert f"{output / 'supernet.pth'}: trained in" in captured.err
    assert load_supernet(output / "supernet.pth").space.name == SPACE
    assert call(*command, "--json") == 0  # it is finished
    captured = capsys.readouterr()
    about = json.loads(captured.out)
    assert about["checkpoint"] == str(output / "supernet.pth")
    assert about["command"].startswith(f"lutra supernet train --space {SPACE} --data {images}")
    assert "--method sandwich --epochs 1 --batch 18 --threads 1" in about["command"]
    assert 0 <= about["smallest_top1_percent"] <= 100
    assert len(about["history"]) == 1
    assert "this training is finished" in captured.err


def test_the_command_is_recorded_exactly(images: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ("--learning-rate", 0.123456789, "--precision", "bf16", "--recompute", "--seed", 0,
               "--accumulate", 2)  # fmt: skip
    output = tmp_path / "trained"
    command = ("supernet", "train", "--space", SPACE, "--data", images, "-o", output, *OPTIONS)
    assert call(*command, *options, "--json") == 0
    recorded = json.loads(capsys.readouterr().out)["command"]
    for words in ("--learning-rate 0.123456789", "--precision bf16", "--recompute",
                  "--threads 1", "--accumulate 2"):  # fmt: skip
        assert words in recorded
    assert "--seed" not in recorded
    assert "--json" not in recorded


def test_only_torchrun_s_first_process_speaks(
    images: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def joined(device: object) -> nullcontext[Processes]:
        return nullcontext(Processes())

    monkeypatch.setattr(train, "joined_processes", joined)
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ("supernet", "train", "--space", SPACE, "--data", images, *OPTIONS)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert call(*command, "-o", tmp_path / rank) == 0
        assert bool(capsys.readouterr().out) == (rank == "0")


@pytest.mark.parametrize(
    ("space", "options", "code", "says"),
    [
        ("ofa-mbv3-w0.25", (), 1, f"--space {SPACE.partition('/r')[0]}"),
        ("nowhere", (), 2, "unknown space 'nowhere'"),
        (SPACE, ("--epochs", 3), 2, "3 epochs are too few: there are 6 phases"),
        (SPACE, ("--batch", 64), 1, "36 images for training are fewer than the 64"),
        (SPACE, ("--device", "cuda:99"), 2, "there is no cuda:99"),
        (SPACE, ("--learning-rate", -1), 2, "a learning rate of -1.0"),
        (SPACE, ("--save-every", "often"), 2, "'often' is not a time"),
        (SPACE, ("--method", "magic"), 2, "'magic' is not one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    space: str,
    options: tuple[object, ...],
    code: int,
    says: str,
    images: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    output = tmp_path / "trained"
    call_with = ("supernet", "train", "--space", space, "--data", images, "-o", output, *options)
    assert call(*call_with) == code
    assert_one_line(capsys, says)
    assert not (output / "supernet.pth").exists()


def test_no_images(tmp_path: Path, capsys: Capture) -> None:
    for folder in (tmp_path / "none", tmp_path):
        command = ("supernet", "train", "--space", SPACE, "--data", folder, "-o", tmp_path / "o")
        assert call(*command) == 1
        assert_one_line(capsys, str(folder))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    assert call(*command) == 1
    assert_one_line(capsys, "train-images-idx3-ubyte is no idx file")
