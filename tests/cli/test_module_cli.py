"""A user's own module as a network file, taken through the commands as by other processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lutra
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.spaces import registry
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.supernets.small_data import write_small_data


class Residual(nn.Module):
    """Two shortcuts, a depthwise convolution, a gate, and a normalisation's epsilon of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16, eps=1e-3)
        self.deep = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.mix = nn.Conv2d(16, 16, 1)
        self.block = nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1))
        self.wide = nn.Conv2d(16, 32, 3, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = nn.functional.hardswish(self.norm(self.stem(images)))
        inner = torch.relu(self.deep(features))
        inner = inner * nn.functional.hardsigmoid(self.gate(self.pool(inner)))
        features = features + self.mix(inner)
        features = torch.relu(self.wide(features + self.block(features)))
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits


def forget() -> None:
    """As if this process had not read the module's file yet."""
    for name in [name for name in registry._SPACES if name.startswith("module-")]:
        del registry._SPACES[name]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, the module's file, its curves, a table of its narrower forms; read only."""
    folder = tmp_path_factory.mktemp("module")
    write_small_data(folder / "stripes")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Residual()
        module.norm.running_var.uniform_(1e-4, 1.0)  # type: ignore[union-attr]
    lutra.save_module(module, folder / "module.pth", image_shape=(1, 20, 20))
    space = lutra.network_space(folder / "module.pth")
    lutra.profile(FakeDevice(FakeScript()), space, folder / "w.lut", resolutions=[20], networks=6)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    forget()
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


def test_the_file_computes_what_the_module_does(folder: Path) -> None:
    from lutra.supernets.checkpoints.network import load_network

    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Residual().eval()
        images = torch.randn(4, 1, 20, 20)
    module.norm.running_var.fill_(1e-3)  # type: ignore[union-attr]
    network = lutra.save_module(module, folder / "other.pth", image_shape=(1, 20, 20))
    forget()
    architecture, loaded = load_network(folder / "other.pth")
    assert architecture == network
    with torch.inference_mode():
        np.testing.assert_allclose(loaded(images), module(images), rtol=1e-4, atol=1e-5)


def test_pruned_by_commands(folder: Path, capsys: Capture) -> None:
    module, table, curves = folder / "module.pth", folder / "w.lut", folder / "c.jsonl"
    result, pruned = folder / "r.json", folder / "pruned.pth"
    data = ("--data", folder / "stripes")
    few = ("--images", 4, "--calibration-images", 8)
    weights = ("--checkpoint", module)
    sensed = call_json(capsys, "prune", "sense", *weights, *data, *few, "-o", curves)
    forget()
    plan = ("profile", "fake", "--space", sensed["space"], "-o", folder / "x.lut", "--dry-run")
    assert call(*plan) == 2
    assert_one_line(capsys, "only the module's network file says", "--checkpoint FILE")
    planned = call_json(capsys, *plan, *weights)
    some = call_json(capsys, *plan, *weights, "--ops", module)
    assert 0 < some["ops"] < planned["ops"]
    forget()
    full_ms = call_json(capsys, "predict", table, "--arch", module)["predicted_ms"]
    forget()
    search = ("search", table, "--max-latency", f"{0.7 * full_ms}ms", "--accuracy", curves)
    assert call(*search) == 2
    assert_one_line(capsys, "only the module's network file says")
    found = call_json(capsys, *search, *weights, "-o", result)
    assert found["candidates"][0]["predicted_ms"] < 0.7 * full_ms
    forget()
    for command in (
        ("export", result, "-o", folder / "m.onnx"),
        ("predict", table, "--arch", result),
    ):
        assert call(*command) in (1, 2)
        assert_one_line(capsys, "only the module's network file says")
    call_json(capsys, "prune", "apply", result, *weights, *data, "--fine-tune", 1, "-o", pruned)
    forget()
    before = pruned.read_bytes()
    assert call("export", result, "--checkpoint", pruned, "-o", module) == 2
    assert_one_line(capsys, "is one network's weights: a torch model is not written over it")
    alone = call_json(capsys, "export", pruned, "-o", folder / "a.onnx")
    forget()
    named = call_json(capsys, "export", result, "--checkpoint", pruned, "-o", folder / "b.onnx")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    assert alone["architecture"] == named["architecture"]
    right = [
        call_json(capsys, "evaluate", folder / name, *data)["top1"]
        for name in ("pruned.pth", "a.onnx")
    ]
    assert right[0] == right[1]
    assert pruned.read_bytes() == before


def test_what_was_pruned_goes_on(folder: Path, capsys: Capture) -> None:
    """Trained, quantised, clustered and pruned further, without its block."""
    space = lutra.network_space(folder / "module.pth")
    row = space.choice_counts // 2 * (space.choice_counts > 1)
    row[[gene.choices[0] == 0 for gene in space.genes]] = 0
    chosen = space.decode(row)
    assert not any(node.name.startswith("block") for node in space.graph(chosen).nodes)
    (folder / "a.json").write_text(chosen.key)
    data = ("--data", folder / "stripes")
    pruned = folder / "pruned.pth"
    forget()
    weights = ("--checkpoint", folder / "module.pth")
    call_json(capsys, "prune", "apply", folder / "a.json", *weights, "-o", pruned)
    given = ("--checkpoint", pruned, *data)
    for name, command in {
        "tuned.pth": ("fine-tune",),
        "int8.tflite": ("quantize",),
        "clustered.pth": ("cluster", "--epochs", 0),
    }.items():
        forget()
        call_json(capsys, *command, *given, "-o", folder / name)
    forget()
    tuned = folder / "tuned.pth"
    few = ("--images", 4, "--calibration-images", 8)
    sensed = call_json(
        capsys, "prune", "sense", "--checkpoint", tuned, *data, *few, "-o", folder / "c.jsonl"
    )
    assert sensed["space"] not in (space.name, "")
    forget()
    assert lutra.network_space(tuned).name == sensed["space"]


EDITS = {
    "a kernel": lambda graph: graph["nodes"][0].update(kernel=5),
    "channels": lambda graph: graph["shapes"].update(stem=[10, 10, 8]),
    "a huge map": lambda graph: graph["shapes"].update(input=[1 << 40, 1 << 40, 1]),
    "images that are not square": lambda graph: graph["shapes"].update(input=[19, 20, 1]),
    "an unknown op": lambda graph: graph["nodes"][0].update(op="exec"),
    "no nodes": lambda graph: graph.update(nodes=[]),
    "a loop": lambda graph: graph["nodes"][0].update(inputs=["classifier"]),
    "a list": lambda graph: graph.update(nodes=3),
    "another order of names": lambda graph: graph["nodes"][0].update(name="classifier"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edited_graphs_are_refused(edit: object, folder: Path, capsys: Capture) -> None:
    document = torch.load(folder / "module.pth", weights_only=True)
    assert callable(edit)
    edit(document["graph"])
    torch.save(document, folder / "module.pth")
    assert call("export", folder / "module.pth", "-o", folder / "m.onnx") == 1
    assert_one_line(capsys, "module.pth names no network of a space")
    assert not (folder / "m.onnx").exists()


@pytest.mark.parametrize("epsilons", [None, {}, {"stem": float("nan")}, {"stem": 2.0}])
def test_epsilons_are_checked(epsilons: object, folder: Path, capsys: Capture) -> None:
    document = torch.load(folder / "module.pth", weights_only=True)
    document["norm_epsilons"] = epsilons
    torch.save(document, folder / "module.pth")
    assert call("export", folder / "module.pth", "-o", folder / "m.onnx") == 1
    assert_one_line(capsys, "epsilon")


def test_another_module_beside_measurements(folder: Path) -> None:
    layers = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = layers.append(nn.Linear(8, 10))
    with pytest.raises(lutra.UsageError, match="another module"):
        lutra.prune_module(module, folder / "stripes", folder, resolution=20, max_latency_ms=1.0)
