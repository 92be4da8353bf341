"""One int8 file of a trained network: what it says of its ranges, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lutra.errors import CheckpointError, DataError, UsageError
from lutra.search.export import export
from lutra.supernets.checkpoints.checkpoint import read_checkpoint
from lutra.supernets.checkpoints.network import (
    TrainedRanges,
    load_network,
    save_network,
    trained_ranges,
)
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.quantization.comparison import compared
from lutra.supernets.quantization.quantize import quantize
from lutra.supernets.subnet import Subnet
from tests.supernets.folders import write_images
from tests.supernets.quantization.conftest import Shipped


@pytest.fixture(scope="session")
def kept(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an int8 file that was trained for an epoch, and its network's file."""
    folder = tmp_path_factory.mktemp("quantised")
    metadata = quantize(
        folder / "m.tflite",
        *shipped[::2],
        shipped.architecture,
        ranges="trained",
        epochs=1,
        learning_rate=0.001,
        network=folder / "network.pth",
    )
    assert metadata["ranges"] == (
        f"trained in tflite's int8, moving: 1 epoch on {shipped.data}, learning rate 0.001, seed 0"
    )
    return folder


def test_what_was_trained_is_deployed_again_bit_for_bit(
    kept: Path, shipped: Shipped, tmp_path: Path
) -> None:
    """By `export` and by `quantize`, with or without images: nothing is estimated anew."""
    trained = content(kept / "m.tflite")
    network = kept / "network.pth"
    quantize(tmp_path / "again.tflite", network, shipped.data, ranges="trained")
    metadata = export(
        shipped.architecture,
        tmp_path / "exported.tflite",
        precision="int8",
        checkpoint=network,
        data=shipped.data,
    )
    assert metadata["ranges"] == "trained in tflite's int8"
    assert metadata["statistics"] == "the network's own"
    assert content(tmp_path / "again.tflite") == trained
    assert content(tmp_path / "exported.tflite") == trained
    quantize(tmp_path / "max.tflite", network, shipped.data)
    assert content(tmp_path / "max.tflite") != trained


def content(path: Path) -> list[tuple[str, bytes, bytes]]:
    """Tensors of a TFLite file that are constants or have a grid."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    found = []
    for item in interpreter.get_tensor_details():
        grids = item["quantization_parameters"]
        try:
            values = interpreter.get_tensor(item["index"]).tobytes()
        except ValueError:
            values = b""
        is_constant = "weight" in item["name"] or "bias" in item["name"]
        scales = grids["scales"].tobytes() + grids["zero_points"].tobytes()
        found.append((item["name"], values if is_constant else b"", scales))
    return found


def test_trained_ranges_keep_the_accuracy(kept: Path, shipped: Shipped) -> None:
    rows = compared(kept / "m.tflite", *shipped[::2], shipped.architecture, limit=120)
    assert [row.ranges for row in rows] == ["fp32", "max", "percentile 99.99", "kl", "m.tflite"]
    fp32, *quantised = (row.accuracies["validation"] for row in rows)
    assert fp32.count == 120
    assert all(row.file_bytes < rows[0].file_bytes for row in rows[1:])
    own = evaluate(kept / "m.tflite", shipped.data, split="validation", limit=120)
    assert quantised[-1] == own.accuracy
    if fp32.percent > 50:  # Fashion-MNIST is there
        assert min(each.percent for each in quantised) >= fp32.percent - 6


@pytest.mark.parametrize(
    ("ranges", "percentile", "says"),
    [("max", None, "max"), ("percentile", 99.0, "percentile 99"), ("kl", None, "kl")],
)
def test_a_file_says_how_its_ranges_came_to_be(
    ranges: str, percentile: float | None, says: str, shipped: Shipped, tmp_path: Path
) -> None:
    metadata = quantize(
        tmp_path / "m.onnx",
        *shipped[::2],
        shipped.architecture,
        ranges=ranges,
        percentile=percentile,
    )
    assert metadata["ranges"] == says
    assert metadata["calibration"] == f"256 images of {shipped.data}"
    assert metadata["precision"] == "int8"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ranges": "trained"}, "holds no trained ranges: train them"),
        ({"ranges": "mean"}, "no ranges are called 'mean'; known: max, percentile, kl, trained"),
        ({"ranges": "percentile", "percentile": 50.0}, "a percentile of 50: above 50"),
        ({"ranges": "kl", "percentile": 99.0}, "a percentile is for the rule 'percentile'"),
        ({"epochs": 1}, "epochs train ranges, and 'max' is a rule"),
        ({"ranges": "trained", "epochs": -1}, "-1 epochs: at least 0"),
        ({"ranges": "trained", "epochs": 1, "observer": "none"}, "no observer is called 'none'"),
        ({"ranges": "trained", "epochs": 1, "learning_rate": np.nan}, "a learning rate of nan"),
        ({"network": "n.pth"}, "a network's file is for what was trained"),
    ],
)
def test_what_does_not_go_together(
    options: dict[str, Any], says: str, shipped: Shipped, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        quantize(tmp_path / "m.onnx", *shipped[::2], shipped.architecture, **options)
    assert not list(tmp_path.iterdir())


def test_other_files_and_images_are_refused(shipped: Shipped, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.torch: an int8 file ends in \.tflite or \.onnx"):
        quantize(tmp_path / "m.torch", *shipped[::2], shipped.architecture)
    with pytest.raises(CheckpointError, match="name one of its networks"):
        quantize(tmp_path / "m.onnx", *shipped[::2])
    photos = write_images(tmp_path / "photos", tuple("abcdefghij"), 4)
    with pytest.raises(DataError, match="its images have"):
        quantize(tmp_path / "m.onnx", shipped.checkpoint, photos, shipped.architecture)


def test_ranges_that_were_trained_bear_no_other_weights(
    kept: Path, shipped: Shipped, tmp_path: Path
) -> None:
    given = {"precision": "int8", "checkpoint": kept / "network.pth", "data": shipped.data}
    for option in ({"fine_tune_epochs": 1}, {"calibration_data": shipped.data}):
        with pytest.raises(UsageError, match="holds ranges that were trained"):
            export(shipped.architecture, tmp_path / "m.onnx", **given, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": (1.0, 0.0)}, "the range of input in int8 is not two finite numbers in order"),
        ({"input": (0.0, np.inf)}, "the range of input in int8 is not two finite numbers"),
        ({"input": ("a", "b")}, "the range of input in int8 is not two finite numbers"),
        ({"other": (0.0, 1.0)}, "are not those of this network's feature maps"),
    ],
)
def test_ranges_of_a_damaged_file(
    change: dict[str, Any], says: str, network: Subnet, shipped: Shipped, tmp_path: Path
) -> None:
    maps = {name: (0.0, 1.0) for name in network.graph.shapes} | change
    path = tmp_path / "n.pth"
    save_network(network, shipped.architecture, path, {}, TrainedRanges("tflite", maps))
    with pytest.raises(CheckpointError, match=says):
        trained_ranges(read_checkpoint(path), network.graph)


def test_ranges_come_back(network: Subnet, shipped: Shipped, tmp_path: Path) -> None:
    maps = {name: (-0.1 * place, 0.3) for place, name in enumerate(network.graph.shapes)}
    ranges = TrainedRanges("onnx", maps)
    save_network(network, shipped.architecture, tmp_path / "n.pth", {}, ranges)
    checkpoint = read_checkpoint(tmp_path / "n.pth")
    _, loaded = load_network(checkpoint)
    assert trained_ranges(checkpoint, loaded.graph) == ranges
    own = network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in loaded.state_dict().items())
    save_network(network, shipped.architecture, tmp_path / "plain.pth", {})
    assert trained_ranges(read_checkpoint(tmp_path / "plain.pth"), loaded.graph) is None
