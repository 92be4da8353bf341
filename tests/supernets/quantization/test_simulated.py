"""The simulation is the file: the same grids, the same integers, the same answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper

from lutra.emitters.emission import Emission
from lutra.emitters.quantization import INT8, activation_ranges, grid
from lutra.emitters.tflite import emit_tflite
from lutra.errors import ModelError, TrainingError, UsageError
from lutra.ops import Graph, GraphBuilder, Shape
from lutra.ops.graph import Activation
from lutra.spaces import get_space
from lutra.supernets.deployment.runners import open_model
from lutra.supernets.quantization.hard_swish import hard_swish_table
from lutra.supernets.quantization.observers import OBSERVERS, WINDOW
from lutra.supernets.quantization.simulated import SimulatedInt8
from lutra.supernets.subnet import Subnet, initialise
from tests.supernets.test_supernet import PROXYLESS, RESNET, disturbed

FORMATS = ("onnx", "tflite")


def saturates() -> bool:
    """Whether onnxruntime's int8 kernels saturate at 16 bits, as on x86 without VNNI."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    return "flags" in text and "vnni" not in text


def network_of(space_name: str, row: int) -> Subnet:
    """A network of random weights with statistics that are not those of the start."""
    space = get_space(space_name)
    counts = space.choice_counts
    subnet = Subnet(space.graph(space.decode(counts * 0 if row == 0 else counts - 1)))
    initialise(subnet, seed=0)
    disturbed(subnet)
    return subnet.eval()


def images_for(graph: Graph, count: int) -> torch.Tensor:
    shape = graph.input_shape
    return torch.randn(count, shape.channels, shape.height, shape.width)


def agreement(
    simulated: SimulatedInt8, network: Subnet, format: str, images: torch.Tensor, path: Path
) -> float:
    """Which share of the outputs is within a step of those of the file with the same ranges."""
    emission = Emission(format, "int8")
    path.write_bytes(emission.emit(network.graph, network.weights(), ranges=simulated.ranges()))
    answers = open_model(path)(images)
    with torch.inference_mode():
        expected = simulated.eval()(images).flatten(1)
    values = simulated.ranges()[network.graph.output]
    step = grid(values, simulated.plan.lowest, simulated.plan.highest).scale
    return float(((expected - answers).abs() <= 1.01 * step).float().mean())


@pytest.mark.parametrize("format", FORMATS)
def test_a_trained_network_answers_as_its_file(
    format: str, network: Subnet, images: torch.Tensor, tmp_path: Path
) -> None:
    if format == "onnx" and saturates():
        pytest.skip("this CPU's int8 kernels saturate")
    ranges = activation_ranges(network.graph, network.weights(), images[:64].numpy())
    simulated = SimulatedInt8(network, format, ranges)
    assert agreement(simulated, network, format, images, tmp_path / f"m.{format}") >= 0.99


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("space", [PROXYLESS, RESNET])
def test_so_do_those_of_other_spaces(space: str, format: str, tmp_path: Path) -> None:
    if format == "onnx" and saturates():
        pytest.skip("this CPU's int8 kernels saturate")
    network = network_of(space, row=-1 if space == PROXYLESS else 0)
    images = images_for(network.graph, 40)
    ranges = activation_ranges(network.graph, network.weights(), images.numpy())
    simulated = SimulatedInt8(network, format, ranges)
    assert agreement(simulated, network, format, images, tmp_path / f"m.{format}") >= 0.99


def values_of(content: bytes, format: str, images: torch.Tensor) -> torch.Tensor:
    """What an int8 file gives for each image, whatever its shape, channels first."""
    if format == "onnx":
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return torch.cat(
            [torch.from_numpy(session.run(None, {"input": one[None]})[0]) for one in images.numpy()]
        )
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (given,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = given["quantization"]
    found = []
    for one in images.numpy().transpose(0, 2, 3, 1):
        levels = np.clip(np.rint(one / np.float32(scale)) + zero_point, *INT8)
        interpreter.set_tensor(given["index"], levels[None].astype(np.int8))
        interpreter.invoke()
        found.append(interpreter.get_tensor(gives["index"]))
    scale, zero_point = gives["quantization"]
    values = torch.from_numpy((np.concatenate(found) - np.float32(zero_point)) * np.float32(scale))
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def cut(graph: Graph, name: str) -> Graph:
    """The graph up to one of its feature maps."""
    last = [node.name for node in graph.nodes].index(name)
    return replace(graph, output=name, nodes=graph.nodes[: last + 1])


def steps_apart(
    simulated: SimulatedInt8, name: str, network: Subnet, format: str, images: torch.Tensor
) -> torch.Tensor:
    """By how many steps the simulated values of a feature map are off those of a file."""
    graph, ranges = cut(network.graph, name), simulated.ranges()
    content = Emission(format, "int8").emit(graph, network.weights(), ranges=ranges)
    found = values_of(content, format, images)
    with torch.inference_mode():
        expected = simulated.eval().feature_maps(images)[name].reshape(found.shape)
    step = grid(ranges[name], simulated.plan.lowest, simulated.plan.highest).scale
    return torch.round((expected - found) / step).abs()


@pytest.mark.parametrize("format", FORMATS)
def test_feature_maps_within_a_network_are_its_file_s(
    format: str, network: Subnet, images: torch.Tensor
) -> None:
    if format == "onnx" and saturates():
        pytest.skip("this CPU's int8 kernels saturate")
    ranges = activation_ranges(network.graph, network.weights(), images.numpy())
    simulated = SimulatedInt8(network, format, ranges)
    names = [
        step.output for step in simulated.plan.steps if step.output in simulated.plan.grid_names
    ]
    shown = [name for name in names if name in network.graph.shapes][5::12]
    assert len(shown) > 4
    for name in shown:
        apart = steps_apart(simulated, name, network, format, images[:40])
        assert (apart <= 1).float().mean() >= 0.99, name
        assert (apart == 0).float().mean() >= 0.99, name


OPS: dict[str, Callable[[GraphBuilder], str]] = {
    "conv": lambda builder: convolved(builder, "input"),
    "gate": lambda builder: convolved(builder, "input", "h_sigmoid"),
    "h_swish": lambda builder: builder.activation("input", "h_swish"),
    "h_sigmoid": lambda builder: builder.activation("input", "h_sigmoid"),
    "global_pool": lambda builder: builder.global_pool("input"),
    "avg_pool": lambda builder: builder.avg_pool(convolved(builder, "input"), stride=2),
    "max_pool": lambda builder: builder.max_pool("input", kernel=3, stride=2),
    "add": lambda builder: builder.add("input", convolved(builder, "input")),
    "mul": lambda builder: builder.mul(
        "input", convolved(builder, builder.global_pool("input"), "h_sigmoid")
    ),
    "linear": lambda builder: builder.linear(builder.global_pool("input"), 7),
}


def convolved(builder: GraphBuilder, source: str, activation: Activation = "none") -> str:
    kernel = 3 if builder.shape(source).height > 1 else 1
    return builder.conv(source, 3, name="conv", kernel=kernel, activation=activation)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("op", OPS)
def test_each_op_rounds_as_the_runtime_s_kernel(op: str, format: str) -> None:
    if format == "onnx" and saturates():
        pytest.skip("this CPU's int8 kernels saturate")
    builder = GraphBuilder(Shape(16, 16, 3))
    network = Subnet(builder.build(OPS[op](builder))).eval()
    rng = np.random.default_rng(0)
    for seed in range(3):
        initialise(network, seed=seed)
        low, high = -rng.uniform(0.1, 6), rng.uniform(0.1, 6)
        images = torch.from_numpy(rng.uniform(low, high, (40, 3, 16, 16)).astype(np.float32))
        ranges = activation_ranges(network.graph, network.weights(), images.numpy())
        narrow = {name: (0.9 * low, 0.9 * high) for name, (low, high) in ranges.items()}
        simulated = SimulatedInt8(network, format, narrow)
        apart = steps_apart(simulated, network.graph.output, network, format, images)
        assert (apart == 0).float().mean() >= 0.999


def two_layers(activation: str = "h_swish") -> Subnet:
    builder = GraphBuilder(Shape(6, 6, 1))
    hidden = builder.conv("input", 4, name="conv", kernel=3, activation=activation)  # type: ignore[arg-type]
    network = Subnet(builder.build(builder.linear(hidden, 5)))
    initialise(network, seed=0)
    disturbed(network)
    return network


def trained_briefly(network: Subnet, format: str, observer: str = "moving") -> SimulatedInt8:
    """After three steps, in which ranges followed the batches and weights the gradient."""
    images = images_for(network.graph, 8)
    ranges = activation_ranges(network.graph, network.weights(), images.numpy())
    simulated = SimulatedInt8(network, format, ranges, observer).train()
    optimizer = torch.optim.SGD(simulated.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        (simulated((1.5 + step) * images) ** 2).mean().backward()
        optimizer.step()
    return simulated


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("activation", ["relu", "relu6", "h_swish", "h_sigmoid"])
def test_what_was_trained_answers_as_its_file(activation: str, format: str, tmp_path: Path) -> None:
    if format == "onnx" and saturates():
        pytest.skip("this CPU's int8 kernels saturate")
    network = two_layers(activation)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    simulated = trained_briefly(network, format)
    for name, value in network.state_dict().items():
        kept = "running" in name or "tracked" in name
        assert torch.equal(value, before[name]) == kept, name
    images = images_for(network.graph, 50)
    assert agreement(simulated, network, format, images, tmp_path / f"m.{format}") >= 0.99


def test_the_file_has_the_integers_that_are_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    network = two_layers()
    simulated = trained_briefly(network, "onnx").eval()
    used: list[torch.Tensor] = []
    conv2d = torch.nn.functional.conv2d

    def spied(features: torch.Tensor, *arrays: Any, **options: Any) -> Any:
        used.extend(arrays)
        return conv2d(features, *arrays, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", spied)
    with torch.inference_mode():
        simulated(images_for(network.graph, 1))
    ranges = simulated.ranges()
    content = Emission("onnx", "int8").emit(network.graph, network.weights(), ranges=ranges)
    stored = onnx.load_model_from_string(content).graph.initializer
    arrays = {item.name: numpy_helper.to_array(item) for item in stored}
    for name, found in zip(("weight", "bias"), used, strict=True):
        assert np.array_equal(found.numpy(), arrays[f"conv.{name}.quantized"])
    for name in ("input", "conv"):
        on = grid(ranges[name], 0, 255)
        assert arrays[f"{name}.scale"] == np.float32(on.scale)
        assert arrays[f"{name}.zero_point"] == on.zero_point


@pytest.mark.parametrize("observer", OBSERVERS)
def test_ranges_follow_the_batches_of_training_alone(observer: str) -> None:
    network = two_layers()
    images = images_for(network.graph, 8)
    start = activation_ranges(network.graph, network.weights(), images.numpy())
    simulated = SimulatedInt8(network, "tflite", start, observer)
    with torch.no_grad():
        simulated.eval()(10 * images)
        assert simulated.ranges() == start
        simulated.train()(10 * images)
    low, high = start["input"]
    weight = {"moving": 0.01, "window-mean": 0.5, "window-max": 1.0}[observer]
    expected = (low + weight * 9 * low, high + weight * 9 * high)
    assert simulated.ranges()["input"] == pytest.approx(expected, rel=1e-5)
    assert simulated.ranges().keys() == start.keys()


def test_a_window_forgets() -> None:
    observer = OBSERVERS["window-max"]((-9.0, 9.0))
    for _ in range(WINDOW):
        observer.observe((-1.0, 2.0))
    assert observer.range == (-1.0, 2.0)


def test_what_saturates_has_no_gradient_and_rounding_has_one() -> None:
    network = two_layers("relu")
    images = images_for(network.graph, 4)
    ranges = activation_ranges(network.graph, network.weights(), images.numpy())
    for share, expected in ((1.0, True), (1e-6, False)):
        narrow = {name: (share * low, share * high) for name, (low, high) in ranges.items()}
        network.zero_grad()
        given = {**ranges, network.graph.output: narrow[network.graph.output]}
        SimulatedInt8(network, "onnx", given)(images).sum().backward()
        gradient = network.layers["conv"].weight.grad
        assert isinstance(gradient, torch.Tensor)
        assert bool(gradient.abs().max() > 0) == expected


def test_h_swish_is_the_kernel_s_at_every_value() -> None:
    builder = GraphBuilder(Shape(16, 16, 1))
    graph = builder.build(builder.activation("input", "h_swish"))
    rng = np.random.default_rng(0)
    inputs = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
    for _ in range(40):
        high = rng.uniform(0.2, 20)
        ranges = {"input": (-rng.uniform(0.1, 12), high), graph.output: (-0.375, 0.9 * high)}
        interpreter = Interpreter(
            model_content=emit_tflite(graph, {}, precision="int8", ranges=ranges)
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        grids = [grid(ranges[name], *INT8) for name in ("input", graph.output)]
        assert np.array_equal(found.ravel(), hard_swish_table(*grids))


def test_what_cannot_be_simulated_is_said() -> None:
    network = two_layers()
    images = images_for(network.graph, 2)
    ranges = activation_ranges(network.graph, network.weights(), images.numpy())
    with pytest.raises(UsageError, match="no int8 is simulated for 'torch'; known: onnx, tflite"):
        SimulatedInt8(network, "torch", ranges)
    with pytest.raises(UsageError, match="no observer is called 'mean'; known: moving"):
        SimulatedInt8(network, "onnx", ranges, "mean")
    with pytest.raises(TrainingError, match="feature map input has values that are not finite"):
        SimulatedInt8(network, "onnx", ranges).train()(images / 0)
    dead = {**ranges, "conv.h_swish": (0.0, 0.0)}
    with pytest.raises(ModelError, match="is a feature map all zero"):
        SimulatedInt8(network, "tflite", dead).eval()(images)
