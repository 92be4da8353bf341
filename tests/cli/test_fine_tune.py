"""`lutra fine-tune`, and its files where other commands ask for weights, from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.deployment import tuned_network
from lutra.supernets.elastic.supernet import Supernet
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.supernets.images import write_idx

SPACE = "ofa-mbv3-w0.25/classes=3/channels=1/stem=1/r=20:28:4"
TUNE = ("fine-tune", "arch.json", "--checkpoint", "supernet.pth", "--data", "images")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, one of its architectures and a folder of images, where the command runs."""
    torch.manual_seed(0)
    supernet = Supernet(SPACE)
    save_supernet(supernet, tmp_path / "supernet.pth", {})
    (tmp_path / "arch.json").write_text(json.dumps(supernet.smallest().to_json()))
    write_idx(tmp_path / "images", 60, classes=3, size=20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        *("fine-tune", "cluster", "quantize", "prune apply", "export", "shrink"),
        "supernet train",
    ],
)
def test_all_that_trains_takes_threads(command: str, capsys: Capture) -> None:
    assert call(*command.split(), "--threads", "0") == 2
    assert_one_line(capsys, "0 is not in the range 1<=x<=1024")


def test_it_trains_with_the_threads_that_are_asked_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = torch.get_num_threads(), []

    def trained(*arguments: object, **options: object) -> None:
        seen.append(torch.get_num_threads())

    monkeypatch.setattr(tuned_network, "fine_tune", trained)
    assert call(*TUNE, "--threads", before + 1, "-o", "net.pth") == 0
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_from_a_supernet_to_an_exported_network(workplace: Path, capsys: Capture) -> None:
    assert call(*TUNE, "--teacher", "largest", "--fsp", "-o", "net.pth") == 0
    said = capsys.readouterr()
    *table, path = said.out.splitlines()
    assert path == "net.pth"
    assert [line.split()[0] for line in table if line[:6] in ("before", "after ")] == [
        "before",
        "after",
    ]
    assert "statistics: of 54 training images of images" in said.err
    assert said.err.endswith("next: lutra export net.pth -o net.onnx\n")

    further = ("fine-tune", "--checkpoint", "net.pth", "--data", "images", "--seed", "3")
    document = call_json(capsys, *further, "-o", "further.pth")
    assert document["architecture"] == json.loads(Path("arch.json").read_text())
    assert (document["seed"], document["checkpoint"]) == (3, "net.pth")
    found = call_json(
        capsys, "evaluate", "further.pth", "--data", "images", "--split", "validation"
    )
    assert {name: found[name] for name in document["after"]} == document["after"]

    assert call("export", "further.pth", "-o", "further.pth") == 2
    assert_one_line(capsys, "further.pth holds the weights themselves")
    metadata = call_json(capsys, "export", "further.pth", "-o", "m.onnx")
    assert metadata["weights"].startswith("trained: further.pth, SHA-256 ")
    again = call_json(capsys, "export", "arch.json", "--checkpoint", "further.pth", "-o", "n.onnx")
    assert again["weights"] == metadata["weights"]
    assert Path("m.onnx").read_bytes() == Path("n.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--epochs", "0"), 2, "0 is not in the range"),
        (("--fsp",), 2, "name one (--teacher largest)"),
        (("--teacher", "largest", "--temperature", "0"), 2, "a temperature of 0 must be above"),
        (("--teacher", "largest", "--soft-weight", "2"), 2, "must lie in 0..1"),
        (("--teacher", "arch.json"), 1, "arch.json is no PyTorch file"),
        (("--learning-rate", "-1"), 2, "a learning rate of -1.0 must be"),
        (("--data", "nowhere"), 1, "nowhere is not a folder"),
        (("--checkpoint", "images/none.pth"), 1, "cannot read images/none.pth"),
    ],
)
def test_what_cannot_be(
    arguments: tuple[str, ...], code: int, says: str, workplace: Path, capsys: Capture
) -> None:
    assert call(*TUNE, *arguments, "-o", "new.pth") == code
    assert_one_line(capsys, says)
    assert not Path("new.pth").exists()


def test_a_supernet_s_file_names_no_network(workplace: Path, capsys: Capture) -> None:
    assert call("fine-tune", *TUNE[2:], "-o", "new.pth") == 1
    assert_one_line(capsys, "supernet.pth is a supernet's: name one of its networks")
    assert call("export", "supernet.pth", "-o", "m.onnx") == 1
    assert_one_line(capsys, "supernet.pth is no file of one network's weights")
    assert call("evaluate", "supernet.pth", "--data", "images") == 1
    assert_one_line(capsys, "supernet.pth is no torch file of lutra")
