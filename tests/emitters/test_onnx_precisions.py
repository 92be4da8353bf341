"""ONNX files of every precision: valid, close to torch, and in int8 what onnxruntime makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from lutra.emitters.onnx import emit_onnx
from lutra.emitters.quantization import activation_ranges, calibration_inputs
from lutra.emitters.torch import torch_module
from lutra.errors import ModelError
from lutra.ops import (
    Bottleneck,
    Conv,
    Graph,
    GraphBuilder,
    Linear,
    MBConv,
    OpConfig,
    Pool,
    Shape,
    Weights,
    seeded_weights,
)
from lutra.ops.graph import Activation
from lutra.spaces import get_space
from tests.emitters.every_space import every_space

Features = npt.NDArray[Any]

PRECISIONS = ("fp32", "fp16", "int8")
LEVELS = onnxruntime.GraphOptimizationLevel

# what the networks consist of: stride, shortcut, squeeze-and-excitation, every activation
BLOCKS: dict[str, OpConfig] = {
    "stem": Conv(Shape(48, 48, 3), 16, kernel=3, stride=2, activation="h_swish"),
    "relu": MBConv(Shape(28, 28, 16), 24, 64, 5, 2, "relu", se=False, residual=False),
    "h_swish, SE": MBConv(Shape(14, 14, 40), 40, 120, 5, 1, "h_swish", se=True, residual=True),
    "relu6": MBConv(Shape(14, 14, 24), 24, 144, 7, 1, "relu6", se=False, residual=True),
    "bottleneck": Bottleneck(Shape(14, 14, 64), 64, 32, 3, 1, "relu", downsample=False),
    "downsample": Bottleneck(Shape(13, 13, 64), 128, 32, 3, 2, "relu", downsample=True),
    "linear": Linear(Shape(1, 1, 256), 100),
}


def session(model: bytes, level: Any = LEVELS.ORT_ENABLE_ALL, optimized: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3  # saving an optimised model warns that it fits this machine only
    # without VNNI the default kernels saturate at 16 bits, which would test the machine instead
    options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_features(graph: Graph, batch: int = 1) -> Features:
    shape = graph.input_shape
    size = (batch, shape.channels, shape.height, shape.width)
    return np.random.default_rng(1).standard_normal(size, dtype=np.float32)


def expected(graph: Graph, weights: Weights, features: Features) -> Features:
    with torch.inference_mode():
        return np.asarray(torch_module(graph, weights)(torch.from_numpy(features)))


def run(model: bytes, features: Features) -> Features:
    (got,) = session(model).run(None, {"input": features})
    return np.asarray(got)


def sqnr(reference: Features, got: Features) -> float:
    """Signal to quantisation noise, dB."""
    assert got.shape == reference.shape
    assert np.isfinite(got).all()
    noise = np.square(reference - got).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(reference).sum() / noise))


def int8_sqnr(graph: Graph, weights: Weights, batch: int = 1) -> float:
    features = random_features(graph, batch)
    model = emit_onnx(graph, weights, precision="int8", batch=batch)
    return sqnr(expected(graph, weights, features), run(model, features))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The same inputs that our own calibration sees, one by one."""

    def __init__(self, graph: Graph) -> None:
        self._features: Iterator[Features] = iter(calibration_inputs(graph))

    def get_next(self) -> dict[str, Features] | None:
        features = next(self._features, None)
        return None if features is None else {"input": features[None]}


def onnxruntime_int8(graph: Graph, weights: Weights, folder: Path) -> bytes:
    """What onnxruntime's own tool makes of the fp32 file."""
    prepared = {"onnx.quant.pre_process": "onnxruntime.quant"}  # or it advises to prepare the file
    path = folder / "quantized.onnx"
    quantize_static(
        onnx.load_from_string(emit_onnx(graph, weights, metadata=prepared)),
        path,
        _Reader(graph),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path.read_bytes()


def optimized_operators(model: bytes, level: Any, folder: Path) -> Counter[tuple[str, str]]:
    path = folder / "optimized.onnx"
    session(model, level, path)
    return Counter((node.domain, node.op_type) for node in onnx.load(path).graph.node)


def assert_same_kernels(ours: bytes, theirs: bytes, folder: Path) -> None:
    for level in (LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        assert optimized_operators(ours, level, folder) == optimized_operators(
            theirs, level, folder
        )


@every_space
def test_files_of_every_precision_are_valid(name: str) -> None:
    for op in get_space(name).ops_at([132])[::6]:
        weights = seeded_weights(op.graph)
        for precision in PRECISIONS:
            model = emit_onnx(op.graph, weights, precision=precision, batch=2)
            onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_fp16_is_close_to_torch(block: OpConfig, batch: int) -> None:
    weights = seeded_weights(block.graph)
    features = random_features(block.graph, batch)
    got = run(
        emit_onnx(block.graph, weights, precision="fp16", batch=batch), features.astype(np.float16)
    )
    reference = expected(block.graph, weights, features)
    assert got.dtype == np.float16
    assert got.shape == reference.shape
    assert np.abs(got - reference).max() < 2e-2 * np.abs(reference).max()


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_int8_is_as_accurate_and_runs_the_same_kernels_as_onnxruntimes_own(
    block: OpConfig, tmp_path: Path
) -> None:
    graph, weights = block.graph, seeded_weights(block.graph)
    ours = emit_onnx(graph, weights, precision="int8")
    theirs = onnxruntime_int8(graph, weights, tmp_path)
    assert_same_kernels(ours, theirs, tmp_path)
    features = random_features(graph)
    reference = expected(graph, weights, features)
    levels = [sqnr(reference, run(model, features)) for model in (ours, theirs)]
    assert levels[0] == pytest.approx(levels[1], abs=1.0)
    assert levels[0] > 25.0


@every_space
def test_int8_units_run_the_same_kernels_as_onnxruntimes_own(name: str, tmp_path: Path) -> None:
    for op in get_space(name).ops_at([128])[5::19]:
        weights = seeded_weights(op.graph)
        ours = emit_onnx(op.graph, weights, precision="int8")
        assert_same_kernels(ours, onnxruntime_int8(op.graph, weights, tmp_path), tmp_path)


def awkward_graphs() -> dict[str, Graph]:
    """Where a rule of which feature map to quantise turns on who else reads it."""
    graphs = {"max pool alone": Pool(Shape(9, 9, 8), "max", kernel=3, stride=2).graph}
    builder = GraphBuilder(Shape(8, 8, 8))
    graphs["activation of the input"] = builder.build(
        builder.conv(builder.activation("input", "relu6"), 8, name="conv")
    )
    builder = GraphBuilder(Shape(8, 8, 8))
    conv = builder.conv("input", 8, name="conv")
    graphs["activation beside a shortcut"] = builder.build(
        builder.add(builder.activation(conv, "relu6"), conv)
    )
    builder = GraphBuilder(Shape(8, 8, 8))
    pooled = builder.max_pool(builder.conv("input", 8, name="conv"), kernel=3, stride=2)
    graphs["activation of a pool"] = builder.build(builder.activation(pooled, "relu"))
    builder = GraphBuilder(Shape(8, 8, 8))
    graphs["one channel, no bias"] = builder.build(
        builder.linear(builder.conv("input", 1, name="conv", bias="none"), 1)
    )
    return graphs


@pytest.mark.parametrize("graph", awkward_graphs().values(), ids=awkward_graphs())
def test_int8_of_awkward_graphs(graph: Graph, tmp_path: Path) -> None:
    weights = seeded_weights(graph)
    ours = emit_onnx(graph, weights, precision="int8")
    onnx.checker.check_model(onnx.load_from_string(ours), full_check=True)
    assert_same_kernels(ours, onnxruntime_int8(graph, weights, tmp_path), tmp_path)
    assert int8_sqnr(graph, weights) > 20.0


@settings(max_examples=25, deadline=None)
@given(
    st.builds(Shape, st.integers(2, 12), st.integers(2, 12), st.integers(4, 12)),
    st.integers(4, 12),
    st.sampled_from([3, 5, 7]),
    st.sampled_from([1, 2]),
    st.sampled_from(["relu", "relu6", "h_swish"]),
    st.booleans(),
    st.integers(1, 3),
)
def test_int8_of_any_block(
    shape: Shape,
    out_channels: int,
    kernel: int,
    stride: int,
    activation: str,
    se: bool,
    batch: int,
) -> None:
    op = MBConv(shape, out_channels, 16, kernel, stride, activation, se, residual=False)  # type: ignore[arg-type]
    weights = seeded_weights(op.graph)
    features = random_features(op.graph, batch)
    ranges = activation_ranges(op.graph, weights, features)  # of a few values: no others fit
    model = emit_onnx(op.graph, weights, precision="int8", batch=batch, ranges=ranges)
    assert sqnr(expected(op.graph, weights, features), run(model, features)) > 25.0


@every_space
def test_int8_of_whole_networks(name: str) -> None:
    space = get_space(name)
    (row,) = space.sample(1, np.random.default_rng(5), [128])
    graph = space.graph(space.decode(row))
    assert int8_sqnr(graph, seeded_weights(graph)) > 30.0


def test_channels_without_weights_keep_their_bias() -> None:
    graph = Conv(Shape(8, 8, 4), 4, kernel=3).graph
    weights = dict(seeded_weights(graph))
    fades = np.array([0.0, 1e-12, 1.0, 1.0], dtype=np.float32)
    weights["u00.conv.weight"] = weights["u00.conv.weight"] * fades[:, None, None, None]
    weights["u00.conv.bias"] = np.array([0.7, -0.7, 0.1, 0.0], dtype=np.float32)
    assert int8_sqnr(graph, weights) > 30.0


def test_an_output_that_an_activation_reads_stays() -> None:
    builder = GraphBuilder(Shape(8, 8, 8))
    conv = builder.conv("input", 8, name="conv")
    builder.activation(conv, "relu")
    graph = builder.build(conv)
    assert int8_sqnr(graph, seeded_weights(graph)) > 30.0


def test_int8_uses_the_ranges_that_it_is_given() -> None:
    graph = BLOCKS["stem"].graph
    weights = seeded_weights(graph)
    observed = activation_ranges(graph, weights)
    model = emit_onnx(graph, weights, precision="int8")
    assert emit_onnx(graph, weights, precision="int8", ranges=observed) == model
    wider = {name: (2 * low, 2 * high) for name, (low, high) in observed.items()}
    assert emit_onnx(graph, weights, precision="int8", ranges=wider) != model
    with pytest.raises(KeyError, match="input"):
        emit_onnx(graph, weights, precision="int8", ranges={})


@pytest.mark.parametrize(
    ("activation", "change", "gives"),
    [("relu", (-0.5, 1.0), "0 to inf"), ("relu6", (0.0, 7.0), "0 to 6")],
)
def test_a_range_that_would_undo_an_activation(
    activation: Activation, change: tuple[float, float], gives: str
) -> None:
    """Saturating to the range stands for the activation, which int8 files do without."""
    graph = Conv(Shape(8, 8, 3), 8, activation=activation).graph
    weights = seeded_weights(graph)
    ranges = activation_ranges(graph, weights) | {graph.output: change}
    with pytest.raises(ModelError, match=f"in int8 is .* beyond what .* gives, {gives}"):
        emit_onnx(graph, weights, precision="int8", ranges=ranges)


def test_unknown_precision() -> None:
    graph = BLOCKS["linear"].graph
    with pytest.raises(ValueError, match="bf16"):
        emit_onnx(graph, seeded_weights(graph), precision="bf16")
