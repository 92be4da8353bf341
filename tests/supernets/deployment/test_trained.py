"""Exported files have a supernet's weights, say so, and are as accurate as the module."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from lutra.emitters.emission import Emission
from lutra.emitters.export import Filling
from lutra.emitters.quantization import activation_ranges
from lutra.errors import CheckpointError, DataError, ResultError, TrainingError, UsageError
from lutra.ops import seeded_weights
from lutra.search.export import export
from lutra.spaces import get_space
from lutra.supernets.checkpoints.checkpoint import load_supernet, save_supernet
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.runners import open_model
from lutra.supernets.deployment.trained import Training, trained_filling
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from lutra.supernets.subnet import Subnet, initialise
from tests.supernets.deployment.conftest import Trained
from tests.supernets.folders import write_images
from tests.supernets.images import write_idx
from tests.supernets.test_supernet import MBV3, PROXYLESS

IMAGES = 500


@pytest.fixture(scope="session")
def module(trained: Trained) -> Subnet:
    """The trained subnet with statistics of its own."""
    subnet = load_supernet(trained.checkpoint).subnet(trained.architecture).eval()
    tune_statistics(subnet, load_images(trained.data, "train"), trained.architecture.r)
    return subnet


@pytest.fixture(scope="session")
def module_percent(trained: Trained, module: Subnet) -> float:
    test = load_images(trained.data, "test")
    percent = top1(module, test, trained.architecture.r, limit=IMAGES).percent
    assert percent > 45.0, f"{percent} %: it has learned little"
    return percent


@pytest.mark.parametrize(
    ("format_name", "precision", "points"),
    [
        ("onnx", "fp32", 0.1),
        ("onnx", "fp16", 0.5),
        ("onnx", "int8", 1.5),
        ("tflite", "fp32", 0.1),
        ("tflite", "fp16", 0.5),
        ("tflite", "int8", 1.5),
        ("torch", "fp32", 0.1),
    ],
)
def test_an_exported_file_is_as_accurate_as_the_module(
    format_name: str,
    precision: str,
    points: float,
    trained: Trained,
    module: Subnet,
    module_percent: float,
    tmp_path: Path,
) -> None:
    path = tmp_path / f"m.{format_name}"
    metadata = export(
        trained.architecture,
        path,
        precision=precision,
        checkpoint=trained.checkpoint,
        data=trained.data,
    )
    found = evaluate(path, trained.data, limit=IMAGES)
    assert found.accuracy.count == min(IMAGES, len(load_images(trained.data, "test")))
    assert found.to_json()["precision"] == precision
    assert abs(found.percent - module_percent) <= points
    if precision == "fp32":
        features, _ = load_images(trained.data, "test").batch(np.arange(20), trained.architecture.r)
        with torch.inference_mode():
            difference = open_model(path)(features) - module(features)
        assert float(difference.abs().max()) <= 1e-4
    digest = hashlib.sha256(trained.checkpoint.read_bytes()).hexdigest()
    assert metadata["weights"] == f"trained: supernet.pt, SHA-256 {digest}"
    assert metadata["statistics"] == f"of 2000 training images of {trained.data}"
    assert metadata.get("calibration") == (
        f"256 images of {trained.data}" if precision == "int8" else None
    )
    assert metadata["pixels"] == "grey; (value / 255 - mean) / deviation, mean 0.5, deviation 0.5"


def test_ranges_of_random_inputs_are_further_off(
    trained: Trained, module: Subnet, tmp_path: Path
) -> None:
    """Why --calibration-data is there; on Fashion-MNIST they cost many points of accuracy."""
    images, _ = load_images(trained.data, "test").batch(np.arange(200), trained.architecture.r)
    with torch.inference_mode():
        expected = module(images)
    path = tmp_path / "m.tflite"
    errors = []
    weights = module.weights()
    for calibration in (images.numpy(), None):
        emission = Emission("tflite", "int8")
        ranges = activation_ranges(module.graph, weights, calibration)
        content = emission.emit(module.graph, weights, ranges=ranges)
        path.write_bytes(content)
        errors.append(float((open_model(path)(images) - expected).norm()))
    assert errors[1] > errors[0]  # by how much depends on the weights that training came to


def test_without_images_the_file_says_what_it_lacks(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    metadata = export(trained.architecture, path, precision="int8", checkpoint=trained.checkpoint)
    assert "accuracy will be poor except for the largest" in metadata["statistics"]
    assert metadata["calibration"].startswith("random inputs")
    stored = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert stored == {key: metadata[key] for key in metadata if key not in ("path", "format")}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_structure_is_the_one_that_is_timed(
    precision: str, trained: Trained, tmp_path: Path
) -> None:
    """Weights and the numbers of grids differ from the timed file's, nothing else."""
    path = tmp_path / "m.onnx"
    export(trained.architecture, path, precision=precision, checkpoint=trained.checkpoint,
           data=trained.data)  # fmt: skip
    graph = get_space(MBV3).graph(trained.architecture)
    timed = onnx.load_from_string(Emission("onnx", precision).emit(graph, seeded_weights(graph)))
    exported = onnx.load(path)
    assert exported.graph.node == timed.graph.node
    assert exported.graph.input == timed.graph.input
    assert exported.graph.output == timed.graph.output
    assert [(item.name, item.data_type, item.dims) for item in exported.graph.initializer] == [
        (item.name, item.data_type, item.dims) for item in timed.graph.initializer
    ]


def filling_of(*asked: Any) -> Filling:
    with trained_filling(*asked) as filling:
        return filling


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_so_is_that_of_a_tflite_file(precision: str, trained: Trained) -> None:
    from ai_edge_litert.interpreter import Interpreter

    graph = get_space(MBV3).graph(trained.architecture)
    emission = Emission("tflite", precision)
    training = Training(trained.checkpoint, trained.data)
    filling = filling_of(trained.architecture, training, emission)
    structures = []
    for weights, ranges in ((filling.weights, filling.ranges), (seeded_weights(graph), None)):
        content = emission.emit(graph, weights, ranges=ranges)
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        structures.append(
            (
                [
                    (item["name"], item["dtype"], item["shape"].tolist())
                    for item in interpreter.get_tensor_details()
                ],
                [
                    (item["op_name"], list(item["inputs"]), list(item["outputs"]))
                    for item in interpreter._get_ops_details()
                ],
            )
        )
    assert structures[0] == structures[1]


def test_other_images_for_the_ranges(trained: Trained, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ("some",), 9)
    emission = Emission("onnx", "int8")
    training = Training(trained.checkpoint, trained.data, folder)
    filling = filling_of(trained.architecture, training, emission)
    assert filling.notes["calibration"] == f"9 images of {folder}"
    own = filling_of(trained.architecture, Training(trained.checkpoint, trained.data), emission)
    assert own.notes["statistics"] == filling.notes["statistics"]
    assert own.ranges != filling.ranges


def test_fine_tuning_is_the_same_each_time_and_lowers_the_loss(
    trained: Trained, module: Subnet, tmp_path: Path
) -> None:
    data = write_idx(tmp_path / "images", 150, size=20)  # other patterns
    images = load_images(data, "train")
    steps: list[tuple[int, int]] = []
    fillings = []
    for seed in (1, 1, 2):
        training = Training(trained.checkpoint, data, None, 2, seed)
        fillings.append(
            filling_of(trained.architecture, training, Emission(), lambda *step: steps.append(step))
        )
    assert steps[: len(steps) // 3] == [(step, 4) for step in range(1, 5)]
    assert fillings[0].notes["fine_tuning"] == f"2 epochs on {data}, seed 1"
    first, again, other = (filling.weights["u00.conv.weight"] for filling in fillings)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    subnet = load_supernet(trained.checkpoint).subnet(trained.architecture)
    tune_statistics(subnet, images, 20)
    before = top1(subnet, images, 20).percent
    fine_tune(subnet, images, 20, 5, learning_rate=0.05, batch=32)
    tune_statistics(subnet, images, 20)
    assert top1(subnet, images, 20).percent > before + 20.0
    assert not subnet.training


def test_a_loss_that_is_no_number_ends_fine_tuning(tmp_path: Path) -> None:
    images = load_images(write_idx(tmp_path / "images", 40), "train")
    supernet = Supernet(MBV3)
    subnet = Subnet(supernet.space.graph(supernet.smallest()))
    initialise(subnet, 0)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) after \d of \d+ steps"):
        fine_tune(subnet, images, 20, 2, learning_rate=1e20, batch=8)


def refused(kind: type[Exception], trained: Trained, tmp_path: Path, **asked: object) -> str:
    path = tmp_path / "m.onnx"
    with pytest.raises(kind) as caught:
        export(trained.architecture, path, **asked)  # type: ignore[arg-type]
    assert not path.exists()
    (line,) = str(caught.value).splitlines()
    return line


def test_images_without_a_use(trained: Trained, tmp_path: Path) -> None:
    def says(**asked: object) -> str:
        return refused(UsageError, trained, tmp_path, **asked)

    assert "name the supernet's file too (--checkpoint)" in says(data=trained.data)
    assert "(--checkpoint)" in says(calibration_data=trained.data)
    assert "(--checkpoint)" in says(fine_tune_epochs=1)
    both = {"checkpoint": trained.checkpoint}
    assert "name their folder (--data)" in says(**both, fine_tune_epochs=1)
    assert "-1 epochs" in says(**both, fine_tune_epochs=-1)
    assert "and this file is fp32" in says(**both, calibration_data=trained.data)


def test_images_that_do_not_fit(trained: Trained, tmp_path: Path) -> None:
    both = {"checkpoint": trained.checkpoint}
    few = write_idx(tmp_path / "few", 20, classes=4)
    line = refused(DataError, trained, tmp_path, **both, data=few)
    assert "it has 4 classes; networks of" in line
    colour = write_images(tmp_path / "colour", ("a", "b"), 6)
    line = refused(DataError, trained, tmp_path, **both, data=colour)
    assert "its images have 3 channels" in line
    line = refused(DataError, trained, tmp_path, **both, data=tmp_path / "nowhere")
    assert "nowhere is not a folder" in line
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.jpg").write_bytes(b"nothing")
    line = refused(
        DataError, trained, tmp_path, **both, precision="int8",
        calibration_data=tmp_path / "broken",
    )  # fmt: skip
    assert "x.jpg is a broken image" in line


def test_a_checkpoint_that_does_not_fit(trained: Trained, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    save_supernet(Supernet(PROXYLESS), other, {})
    line = refused(CheckpointError, trained, tmp_path, checkpoint=other)
    assert f"is a supernet of {PROXYLESS}, not of {MBV3}" in line
    line = refused(CheckpointError, trained, tmp_path, checkpoint=tmp_path / "none.pt")
    assert "cannot read" in line
    (tmp_path / "text.pt").write_text("text")
    line = refused(CheckpointError, trained, tmp_path, checkpoint=tmp_path / "text.pt")
    assert "is no PyTorch file of trained weights" in line


def test_where_nothing_can_be_written_nothing_is_begun(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_reached(*_: object) -> None:
        raise AssertionError("the checkpoint was read first")

    monkeypatch.setattr("lutra.supernets.deployment.trained.trained_filling", not_reached)
    with pytest.raises(ResultError, match="cannot write"):
        export(trained.architecture, tmp_path / "no" / "m.onnx", checkpoint=trained.checkpoint)


def test_a_model_and_images_that_do_not_fit(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export(trained.architecture, path)
    few = write_idx(tmp_path / "few", 20, classes=4)
    with pytest.raises(DataError, match=re.escape(f"it has 4 classes; {path} knows 10")):
        evaluate(path, few)
    colour = write_images(tmp_path / "colour", ("a", "b"), 6)
    says = re.escape(f"its images have 3 channels; {path} takes 1")
    with pytest.raises(DataError, match=says):
        evaluate(path, colour, split="train")
    with pytest.raises(UsageError, match="unknown split 'val'"):
        evaluate(path, few, split="val")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a limit of 0 images"):
        evaluate(path, few, limit=0)
