"""Commands that are given a file of another kind say in one line what it is and what is needed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import lutra
from lutra.cli.main import run
from tests.cli.test_cli import Capture, assert_one_line

FOUND = {
    "table": "is a latency table",
    "network": "is one network's weights",
    "state": "is the state of a training",
    "empty": "is an empty file",
    "three": "",
    "pipe": "is a named pipe: name a file",
}
RESULT, WEIGHTS = "a search's result", "trained weights"
COMMANDS = {
    "verify FILE --device fake": RESULT,
    "export FILE -o OUT": RESULT,
    "export arch.json --checkpoint FILE -o OUT": WEIGHTS,
    "predict table --arch FILE": RESULT,
    "fine-tune FILE --checkpoint network --data . -o OUT": RESULT,
    "fine-tune --checkpoint FILE --data . -o OUT": WEIGHTS,
    "quantize --checkpoint FILE --data . -o OUT": WEIGHTS,
    "cluster --checkpoint FILE --data . -o OUT": WEIGHTS,
    "prune apply FILE --checkpoint network -o OUT": RESULT,
    "prune sense --checkpoint FILE --data . -o OUT": WEIGHTS,
    "shrink --checkpoint FILE --data . --table table --max-latency 1ms -o OUT": WEIGHTS,
    "accuracy fit FILE -o OUT": "",
    "report table FILE -o OUT": RESULT,
    "profile fake --ops FILE --dry-run -o OUT": "",
    "table show FILE": "latency table",
    "unpack FILE -o OUT": "no pack",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, profiled_once: Path) -> Path:
    folder = tmp_path_factory.mktemp("files")
    shutil.copy(profiled_once, folder / "table")
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(8, 10))
    network = lutra.save_module(module, folder / "network", image_shape=(1, 20, 20))
    (folder / "arch.json").write_text(network.key)
    torch.save({"lutra_training": 1}, folder / "state")
    (folder / "empty").touch()
    (folder / "three").write_bytes(b"abc")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_the_line_says_what_it_is(
    command: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(files)
    suffix = ".tflite" if command.startswith("quantize") else ".onnx"
    output = tmp_path / f"out{suffix}"
    for name, found in FOUND.items():
        takes_networks = COMMANDS[command] in (RESULT, WEIGHTS) or "--ops" in command
        if name == "network" and takes_networks and not command.startswith(("verify", "report")):
            continue
        if name == "three" and "--ops" in command:  # keys may be any text
            continue
        if name == "table" and command.startswith(("report", "table")):
            continue
        words = [{"FILE": name, "OUT": str(output)}.get(word, word) for word in command.split()]
        assert run(words) in (1, 2), name
        if command.startswith(("table", "unpack")) and name != "pipe":
            found = COMMANDS[command]
        if command.startswith(("table", "report")) and name == "pipe":
            found = "is no regular file"
        assert_one_line(capsys, name, found)
        assert list(tmp_path.iterdir()) == []


def test_what_to_do_with_a_network_file(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(files)
    assert run(["verify", "network", "--device", "cpu"]) == 2
    assert_one_line(capsys, "lutra export network -o m.onnx", "lutra profile cpu --model m.onnx")
    assert run(["verify", "table", "--device", "cpu"]) == 1
    assert_one_line(capsys, "is a latency table; a search's result (`lutra search ... -o FILE`)")
    assert run(["table", "show", "pipe"]) == 1
    assert_one_line(capsys, "pipe is no regular file, and no latency table")
