"""Model files as their runtimes run them: the module's answers, whatever the layout and type."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from lutra.emitters.emission import FORMATS, Emission
from lutra.emitters.quantization import activation_ranges
from lutra.errors import ModelError
from lutra.ops import Conv, Graph, Shape, chain_graph, seeded_weights
from lutra.ops.linear import Linear
from lutra.supernets.deployment.runners import input_form, open_model
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.test_supernet import MBV3, PROXYLESS, RESNET, disturbed

KINDS = [(name, precision) for name, known in FORMATS.items() for precision in known]


@pytest.mark.parametrize("name", [MBV3, PROXYLESS, RESNET])
@pytest.mark.parametrize("format_name", FORMATS)
def test_exported_files_equal_the_module(name: str, format_name: str, tmp_path: Path) -> None:
    supernet = Supernet(name).eval()
    disturbed(supernet)
    rng = np.random.default_rng(5)
    subnet = supernet.subnet(supernet.space.decode(supernet.space.sample(1, rng)[0]))
    resolution = subnet.graph.input_shape.height
    path = tmp_path / f"m.{format_name}"
    path.write_bytes(Emission(format_name).emit(subnet.graph, subnet.weights()))
    images = torch.randn(5, 1, resolution, resolution)
    with torch.inference_mode():
        expected = subnet(images)
    scale = float(expected.abs().max())
    found = open_model(path)(images)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-4 * max(1.0, scale)


def small_graph(width: int = 8) -> Graph:
    pooled = Conv(Shape(8, width, 3), 4, kernel=7, stride=8)
    return chain_graph([pooled, Linear(pooled.output_shape, 5)])


@pytest.mark.parametrize(("format_name", "precision"), KINDS)
def test_every_format_and_precision_for_any_number_of_images(
    format_name: str, precision: str, tmp_path: Path
) -> None:
    graph = small_graph()
    weights = seeded_weights(graph)
    images = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / f"m.{format_name}"
    emission = Emission(format_name, precision, batch=3)
    ranges = activation_ranges(graph, weights, images.numpy())
    path.write_bytes(emission.emit(graph, weights, ranges=ranges))
    runner = open_model(path)
    assert (runner.form.channels, runner.form.resolution, runner.classes) == (3, 8, 5)
    exact = tmp_path / "exact.torch"
    exact.write_bytes(Emission("torch").emit(graph, weights))
    expected, found = open_model(exact)(images), runner(images)
    assert found.shape == (7, 5)
    assert found.dtype == torch.float32
    spread = float(expected.std())
    assert float((found - expected).abs().max()) < {"fp32": 1e-4}.get(precision, 0.2) * spread
    assert torch.allclose(runner(images[4:5]), found[4:5], atol=1e-5)


def edited(path: Path, edit: Any) -> Path:
    """The small network as an ONNX file that was changed by hand."""
    graph = small_graph()
    model = onnx.load_from_string(Emission().emit(graph, seeded_weights(graph)))
    edit(model)
    onnx.save(model, path)
    return path


def size(model: onnx.ModelProto, place: int) -> Any:
    return model.graph.input[0].type.tensor_type.shape.dim[place]


@pytest.mark.parametrize("name", ["batch", None])
def test_a_file_that_leaves_the_batch_open(name: str | None, tmp_path: Path) -> None:
    def leave_open(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            first = value.type.tensor_type.shape.dim[0]
            first.ClearField("dim_value")
            if name is not None:
                first.dim_param = name

    images = torch.randn(70, 3, 8, 8)
    fixed = edited(tmp_path / "fixed.onnx", lambda model: None)
    left_open = edited(tmp_path / "open.onnx", leave_open)
    assert open_model(left_open).form.batch > 1
    assert torch.allclose(open_model(left_open)(images), open_model(fixed)(images), atol=1e-5)


def set_size(place: int, value: int) -> Any:
    def edit(model: onnx.ModelProto) -> None:
        size(model, place).dim_value = value

    return edit


def all_open(model: onnx.ModelProto) -> None:
    for place in range(4):
        size(model, place).dim_param = f"n{place}"


def integers(model: onnx.ModelProto) -> None:
    """Take bytes, and make them floats."""
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.input[0].name = "bytes"
    cast = helper.make_node("Cast", ["bytes"], ["input"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def feature_map(model: onnx.ModelProto) -> None:
    """The output is that of the convolution before it is pooled."""
    name = model.graph.node[0].output[0]
    conv = model.graph.node[0]
    del model.graph.node[1:]
    del conv.attribute[:]
    conv.attribute.append(helper.make_attribute("kernel_shape", [7, 7]))
    conv.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 4, 4])
    )


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (set_size(1, 2), "takes (1, 2, 8, 8): no square images of 1 or 3 channels"),
        (all_open, "takes (64, ?, ?, ?): no square images of 1 or 3 channels"),
        (integers, "takes tensor(uint8); only float inputs say how an image becomes one"),
        (second_input, "has 2 inputs; a classifier has one"),
        (feature_map, "gives (1, 4, 4, 4), not one value per class for each image"),
    ],
)
def test_files_that_are_no_classifiers(edit: Any, says: str, tmp_path: Path) -> None:
    path = edited(tmp_path / "m.onnx", edit)
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert str(caught.value) == f"{path} {says}"


@pytest.mark.parametrize(
    ("format_name", "told"), [("onnx", "1, 3, 8, 9"), ("tflite", "1, 8, 9, 3")]
)
def test_images_are_square(format_name: str, told: str, tmp_path: Path) -> None:
    graph = small_graph(width=9)
    path = tmp_path / f"m.{format_name}"
    path.write_bytes(Emission(format_name).emit(graph, seeded_weights(graph)))
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert str(caught.value) == f"{path} takes ({told}): no square images of 1 or 3 channels"


def test_files_that_are_no_models(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.tflite", "m.torch", "m.pt"):
        path = tmp_path / name
        with pytest.raises(ModelError, match=f"cannot read {path}"):
            open_model(path)
        path.write_bytes(b"nothing of the kind" * 9)
        with pytest.raises(ModelError, match="damaged") as caught:
            open_model(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="ends in one of .onnx, .tflite, .torch"):
        open_model(tmp_path / "m.h5")


def test_a_model_that_its_runtime_refuses(tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Unheard"

    with pytest.raises(ModelError, match=r"m.onnx cannot be run: .*Unheard") as caught:
        open_model(edited(tmp_path / "m.onnx", rename))
    assert "\n" not in str(caught.value)


def test_the_layout_follows_from_the_shape(tmp_path: Path) -> None:
    assert input_form(tmp_path, [1, 28, 28, 1]) == (1, 1, 28, False)
    assert input_form(tmp_path, [4, 3, 224, 224]) == (4, 3, 224, True)
