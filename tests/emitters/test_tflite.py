"""TFLite files compute what the torch module of the same graph computes, in both runtimes."""

import math
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.emitters.quantization import (
    activation_ranges,
    calibration_inputs,
    quantize_weights,
)
from lutra.emitters.tflite import emit_tflite
from lutra.emitters.tflite_precision import feature_grids
from lutra.emitters.torch import torch_module
from lutra.ops import Conv, Graph, GraphBuilder, MBConv, Pool, Shape, Weights, seeded_weights
from lutra.spaces import get_space
from tests.emitters.every_space import every_space
from tests.tflite_runtimes import INTERPRETERS

Array = npt.NDArray[Any]

FP32_TOLERANCE = 1e-4
FP16_TOLERANCE = 2e-3


@pytest.fixture(params=INTERPRETERS)
def interpreter(request: pytest.FixtureRequest) -> ModuleType:
    module = INTERPRETERS[request.param]
    if isinstance(module, str):
        pytest.skip(module)
    return module


def run_tflite(module: ModuleType, model: bytes, features: Array) -> Array:
    """(N, C, H, W) through a TFLite file, one batch; 8-bit ends are quantised here."""
    runner = module.Interpreter(model_content=model, num_threads=1)
    runner.allocate_tensors()
    (given_,), (result,) = runner.get_input_details(), runner.get_output_details()
    values = features.transpose(0, 2, 3, 1)
    if given_["dtype"] == np.int8:
        scale, zero_point = given_["quantization"]
        values = np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)
    runner.set_tensor(given_["index"], values)
    runner.invoke()
    output: Array = runner.get_tensor(result["index"])
    if result["dtype"] == np.int8:
        scale, zero_point = result["quantization"]
        output = (output.astype(np.float32) - zero_point) * scale
    return output.transpose(0, 3, 1, 2) if output.ndim == 4 else output


def run_torch(graph: Graph, weights: Weights, features: Array) -> Array:
    with torch.inference_mode():
        return np.asarray(torch_module(graph, weights)(torch.from_numpy(features)).numpy())


def error(got: Array, expected: Array) -> float:
    """The greatest difference relative to the greatest value."""
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    return float(np.abs(got - expected).max() / scale)


def signal_to_noise_db(got: Array, expected: Array) -> float:
    assert got.shape == expected.shape
    noise = float(((got - expected) ** 2).sum())
    return 10 * math.log10(float((expected**2).sum()) / max(noise, 1e-30))


def check(module: ModuleType, graph: Graph, batch: int = 1) -> None:
    """fp32 and fp16 against torch."""
    weights = seeded_weights(graph)
    features = np.random.default_rng(1).standard_normal(
        (batch, graph.input_shape.channels, graph.input_shape.height, graph.input_shape.width),
        dtype=np.float32,
    )
    expected = run_torch(graph, weights, features)
    for precision, tolerance in (("fp32", FP32_TOLERANCE), ("fp16", FP16_TOLERANCE)):
        model = emit_tflite(graph, weights, precision=precision, batch=batch)
        assert error(run_tflite(module, model, features), expected) < tolerance


def int8_output(module: ModuleType, graph: Graph, weights: Weights) -> tuple[Array, Array]:
    """What the int8 file and torch make of the calibration's inputs."""
    features = calibration_inputs(graph)
    model = emit_tflite(graph, weights, precision="int8", batch=len(features))
    return run_tflite(module, model, features), run_torch(graph, weights, features)


def ideal_int8(graph: Graph, weights: Weights) -> Array:
    """The same grids in float arithmetic: what 8 bits cost when kernels add no error."""
    grids = feature_grids(graph, activation_ranges(graph, weights))
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    fused = {
        node.inputs[0]
        for node in graph.nodes
        if node.function in ("relu", "relu6") and readers[node.inputs[0]] == 1
    }

    def rounded(name: str, array: Array) -> Array:
        if not name.endswith(".weight"):
            return array
        steps, scales = quantize_weights(array)
        return steps * scales.reshape(-1, *[1] * (array.ndim - 1))

    def on_grid(name: str, value: torch.Tensor) -> None:
        if name not in fused:
            scale, zero_point = grids[name]
            steps = torch.clamp(torch.round(value / scale) + zero_point, -128, 127)
            value.copy_((steps - zero_point) * scale)

    module = torch_module(graph, {name: rounded(name, weights[name]) for name in weights})
    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(calibration_inputs(graph)), on_grid).numpy())


@every_space
def test_units_of_a_space(name: str, interpreter: ModuleType) -> None:
    space = get_space(name)
    for resolution in (128, 132):  # stride 2 meets even and odd sizes
        for op in space.ops_at([resolution])[::11]:
            check(interpreter, op.graph)


@every_space
def test_whole_networks(name: str, interpreter: ModuleType) -> None:
    space = get_space(name)
    (row,) = space.sample(1, np.random.default_rng(5), [128])
    graph = space.graph(space.decode(row))
    check(interpreter, graph)
    got, expected = int8_output(interpreter, graph, seeded_weights(graph))
    assert signal_to_noise_db(got, expected) > 10


@every_space
def test_int8_loses_no_more_than_8_bits_must(name: str, interpreter: ModuleType) -> None:
    """MBConv blocks reach 35 dB in the median; what is below has no more in float arithmetic."""
    mbconv = []
    for op in get_space(name).ops_at([128])[::9]:
        weights = seeded_weights(op.graph)
        got, expected = int8_output(interpreter, op.graph, weights)
        measured = signal_to_noise_db(got, expected)
        assert measured > signal_to_noise_db(ideal_int8(op.graph, weights), expected) - 1.0
        assert measured > 29
        if op.kind == "mbconv":
            mbconv.append(measured)
    assert not mbconv or np.median(mbconv) > 35


@settings(max_examples=25, deadline=None)
@given(
    st.builds(Shape, st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([3, 5, 7]),
    st.sampled_from([1, 2]),
    st.sampled_from(["relu", "relu6", "h_swish"]),
    st.booleans(),
    st.integers(1, 3),
)
def test_any_block(
    shape: Shape, kernel: int, stride: int, activation: str, se: bool, batch: int
) -> None:
    module = INTERPRETERS["litert"]
    assert isinstance(module, ModuleType)
    op = MBConv(shape, 8, 16, kernel, stride, activation, se, residual=False)  # type: ignore[arg-type]
    check(module, op.graph, batch)
    got, expected = int8_output(module, op.graph, seeded_weights(op.graph))
    assert signal_to_noise_db(got, expected) > 20


@pytest.mark.parametrize("size", [5, 8])
def test_max_pool_of_negative_values(size: int, interpreter: ModuleType) -> None:
    graph = Pool(Shape(size, size, 4), "max", kernel=3, stride=2).graph
    features = -1.0 - np.random.default_rng(0).random((1, 4, size, size), dtype=np.float32)
    model = emit_tflite(graph, {})
    assert error(run_tflite(interpreter, model, features), run_torch(graph, {}, features)) == 0
    ranges = {name: (-2.0, 0.0) for name in graph.shapes}
    model = emit_tflite(graph, {}, precision="int8", ranges=ranges)
    assert error(run_tflite(interpreter, model, features), run_torch(graph, {}, features)) < 0.01


def test_grouped_convolution(interpreter: ModuleType) -> None:
    check(interpreter, Conv(Shape(8, 8, 8), 16, kernel=3, groups=2, activation="relu").graph)


@pytest.mark.parametrize("function", ["relu", "relu6", "h_swish", "h_sigmoid"])
def test_an_activation_of_its_own(function: Any, interpreter: ModuleType) -> None:
    builder = GraphBuilder(Shape(4, 4, 4))
    graph = builder.build(builder.activation("input", function))
    check(interpreter, graph)
    got, expected = int8_output(interpreter, graph, {})
    assert signal_to_noise_db(got, expected) > 35


def test_an_activation_that_shares_its_input(interpreter: ModuleType) -> None:
    builder = GraphBuilder(Shape(4, 4, 4))
    conv = builder.conv("input", 4, name="conv")
    graph = builder.build(builder.add(builder.activation(conv, "h_sigmoid"), conv))
    check(interpreter, graph)


def test_a_linear_layer_over_a_feature_map(interpreter: ModuleType) -> None:
    builder = GraphBuilder(Shape(3, 2, 4))
    graph = builder.build(builder.linear("input", 5))
    check(interpreter, graph)
    got, expected = int8_output(interpreter, graph, seeded_weights(graph))
    assert signal_to_noise_db(got, expected) > 35


def block_file(precision: str) -> bytes:
    op = MBConv(Shape(8, 8, 8), 8, 16, 3, 2, "h_swish", se=True, residual=False)
    return emit_tflite(
        op.graph, seeded_weights(op.graph), precision=precision, metadata={"weights": "random"}
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_buffers_start_on_16_bytes(precision: str) -> None:
    content = block_file(precision)
    model = schema.Model.GetRootAs(content)
    starts = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            starts.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert len(starts) > 5
    assert all(start % 16 == 0 for start in starts)


def test_a_file_has_a_signature_and_metadata(interpreter: ModuleType) -> None:
    content = block_file("int8")
    runner = interpreter.Interpreter(model_content=content)
    assert runner.get_signature_list() == {
        "serving_default": {"inputs": ["input"], "outputs": ["output"]}
    }
    model = schema.Model.GetRootAs(content)
    assert model.Metadata(0).Name() == b"weights"
    assert model.Buffers(model.Metadata(0).Buffer()).DataAsNumpy().tobytes() == b"random"


def test_old_and_new_operator_codes_agree() -> None:
    model = schema.Model.GetRootAs(block_file("int8"))
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    assert all(code.BuiltinCode() == code.DeprecatedBuiltinCode() for code in codes)
    versions = {code.BuiltinCode(): code.Version() for code in codes}
    assert versions[schema.BuiltinOperator.CONV_2D] == 3
    assert versions[schema.BuiltinOperator.HARD_SWISH] == 1


def test_no_such_precision() -> None:
    with pytest.raises(ValueError, match="int4"):
        block_file("int4")
