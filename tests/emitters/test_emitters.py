"""ONNX files are valid and compute what the torch module of the same graph computes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.emitters.onnx import emit_onnx
from lutra.emitters.torch import torch_module
from lutra.ops import Graph, MBConv, Pool, Shape, Weights, seeded_weights
from lutra.spaces import get_space
from tests.emitters.every_space import every_space

Array = npt.NDArray[Any]
TOLERANCE = 1e-4


def outputs(graph: Graph, weights: Weights, batch: int) -> tuple[Array, Array]:
    """What onnxruntime and torch make of the same random input."""
    model = emit_onnx(graph, weights, batch=batch)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    shape = graph.input_shape
    features = np.random.default_rng(1).standard_normal(
        (batch, shape.channels, shape.height, shape.width), dtype=np.float32
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": features})
    with torch.inference_mode():
        expected = torch_module(graph, weights)(torch.from_numpy(features)).numpy()
    return got, expected


def assert_equal(graph: Graph, batch: int = 1) -> None:
    got, expected = outputs(graph, seeded_weights(graph), batch)
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    assert np.abs(got - expected).max() / scale < TOLERANCE


@every_space
def test_every_unit_of_a_space_at_an_odd_resolution(name: str) -> None:
    space = get_space(name)
    for op in space.ops_at([132])[::3]:
        assert_equal(op.graph)


@every_space
def test_whole_networks(name: str) -> None:
    space = get_space(name)
    for row in space.sample(3, np.random.default_rng(5), [128, 156]):
        assert_equal(space.graph(space.decode(row)))


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
    op = MBConv(shape, 8, 16, kernel, stride, activation, se, residual=False)  # type: ignore[arg-type]
    assert_equal(op.graph, batch)


@pytest.mark.parametrize("size", [5, 8])
def test_max_pool(size: int) -> None:
    assert_equal(Pool(Shape(size, size, 4), "max", kernel=3, stride=2).graph)


def test_metadata_lands_in_the_file() -> None:
    graph = Pool(Shape(4, 4, 4), "global").graph
    model = onnx.load_from_string(emit_onnx(graph, {}, metadata={"weights": "random"}))
    assert {item.key: item.value for item in model.metadata_props} == {"weights": "random"}


def test_seeded_weights_repeat_and_differ_by_seed() -> None:
    graph = get_space("ofa-mbv3-w1.0").ops[5].graph
    first, again, other = (seeded_weights(graph, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_large_layers_get_distinct_weights() -> None:
    weights = seeded_weights(get_space("ofa-resnet50d").ops_at([128])[-1].graph)
    largest = max(weights.values(), key=lambda array: array.size)
    assert largest.std() > 0
    assert np.isfinite(largest).all()
