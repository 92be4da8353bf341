"""Keys round-trip; costs are those of the graph; nonsense is refused in one line."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import UsageError
from lutra.ops import (
    Bottleneck,
    Conv,
    Linear,
    MBConv,
    OpConfig,
    Pool,
    Shape,
    chain_graph,
    parse_key,
)
from lutra.ops.graph import ACTIVATIONS

sizes = st.integers(1, 300)
channels = st.integers(1, 2048)
shapes = st.builds(Shape, sizes, sizes, channels)
kernels = st.sampled_from([1, 3, 5, 7, 9])
strides = st.integers(1, 4)
activations = st.sampled_from(ACTIVATIONS)

convs = st.builds(
    Conv,
    shapes,
    channels,
    kernel=kernels,
    stride=strides,
    activation=activations,
    bias=st.sampled_from(["none", "bias", "batchnorm"]),
)
mbconvs = st.builds(
    MBConv, shapes, channels, channels, kernels, strides, activations, st.booleans(), st.just(False)
)
residual_mbconvs = shapes.flatmap(
    lambda shape: st.builds(
        MBConv,
        st.just(shape),
        st.just(shape.channels),
        channels,
        kernels,
        st.just(1),
        activations,
        st.booleans(),
        st.just(True),
    )
)
bottlenecks = st.builds(
    Bottleneck, shapes, channels, channels, kernels, strides, activations, st.just(True)
)
pools = st.one_of(
    st.builds(Pool, shapes, st.just("global")),
    st.builds(Pool, shapes, st.just("max"), kernels, strides),
)
linears = st.builds(Linear, shapes, channels)
ops = st.one_of(convs, mbconvs, residual_mbconvs, bottlenecks, pools, linears)


@given(ops)
def test_key_round_trips(op: OpConfig) -> None:
    assert parse_key(op.key) == op
    assert parse_key(op.key).key == op.key


@given(ops, ops)
def test_keys_are_equal_exactly_when_units_are(first: OpConfig, second: OpConfig) -> None:
    assert (first.key == second.key) == (first == second)


@given(ops)
def test_graph_ends_in_the_declared_shape(op: OpConfig) -> None:
    assert op.graph.output_shape == op.output_shape
    assert op.graph.input_shape == op.input_shape
    assert op.border_bytes == 4 * (op.input_shape.elements + op.output_shape.elements)
    assert op.activation_bytes >= 4 * op.output_shape.elements


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_key(text).key == text


@given(ops, st.data())
def test_a_damaged_key_is_refused_or_another_unit(op: OpConfig, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(op.key) - 1))
    damaged = op.key[:position] + op.key[position + 1 :]
    with contextlib.suppress(UsageError):
        assert parse_key(damaged) != op


def test_the_design_key() -> None:
    key = "mbconv/56x56x24-28x28x40/mid=96/k=5/s=2/act=relu/se=1/res=0"
    op = parse_key(key)
    assert op == MBConv(Shape(56, 56, 24), 40, 96, 5, 2, "relu", se=True, residual=False)
    expand, depthwise, project = 56 * 56 * 24 * 96, 28 * 28 * 96 * 25, 28 * 28 * 96 * 40
    squeeze = 2 * 96 * 24
    assert op.macs == expand + depthwise + project + squeeze
    weights = 24 * 96 + 96 * 25 + 96 * 40 + squeeze
    assert op.params == weights + 2 * (96 + 96 + 40) + 24 + 96
    assert op.weight_bytes == 4 * (weights + 96 + 96 + 40 + 24 + 96)


def test_conv_costs() -> None:
    op = Conv(Shape(224, 224, 3), 16, kernel=3, stride=2, activation="h_swish")
    assert op.macs == 112 * 112 * 16 * 27
    assert op.params == 16 * 27 + 32
    grouped = Conv(Shape(8, 8, 16), 32, groups=4, bias="bias")
    assert grouped.macs == 8 * 8 * 32 * 4
    assert grouped.params == 32 * 4 + 32


def test_linear_flattens() -> None:
    op = Linear(Shape(2, 2, 8), 10)
    assert op.macs == 320
    assert op.params == 330


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "unknown kind"),
        ("dance/1x1x1-1x1x1", "unknown kind"),
        ("conv/8x8x8", "not input-output"),
        ("conv/8x8-8x8/k=1", "not a shape"),
        ("conv/8x8x8-8x8x8", "missing attribute"),
        ("conv/8x8x8-8x8x8/k=2/s=1/g=1/act=relu/bias=none/res=0", "must be odd"),
        ("conv/8x8x8-8x8x8/k=1/s=1/g=3/act=relu/bias=none/res=0", "does not divide"),
        ("conv/8x8x8-8x8x8/k=1/s=1/g=1/act=gelu/bias=none/res=0", "unknown activation"),
        ("conv/8x8x8-8x8x8/k=1/s=1/g=1/act=relu/bias=maybe/res=0", "unknown bias"),
        ("conv/8x8x8-8x8x8/k=1/s=1/g=1/act=relu/bias=none/res=2", "not 0 or 1"),
        ("conv/8x8x8-9x9x8/k=1/s=1/g=1/act=relu/bias=none/res=0", "not canonical"),
        ("conv/8x8x8-8x8x8/k=01/s=1/g=1/act=relu/bias=none/res=0", "not canonical"),
        ("conv/8x8x8-8x8x8/k=1/s=1/g=1/act=relu/bias=none/res=0/x=1", "not canonical"),
        ("conv/8x8x8-4x4x8/k=1/s=2/g=1/act=relu/bias=none/res=1", "equal input and output"),
        ("pool/8x8x8-1x1x8/op=median/k=1/s=1", "unknown pooling"),
        ("pool/8x8x8-1x1x8/op=global/k=3/s=1", "takes no kernel"),
        ("linear/1x1x8-1x1x99999", "65536"),
        ("conv/" + "9" * 500, "too long"),
    ],
)
def test_bad_keys_say_why(key: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_key(key)
    assert "\n" not in str(raised.value)
    if says != "65536":
        assert says in str(raised.value)


def test_a_chain_must_fit() -> None:
    first = Conv(Shape(8, 8, 3), 8)
    with pytest.raises(ValueError, match="does not take"):
        chain_graph([first, Conv(Shape(4, 4, 8), 8)])
    with pytest.raises(ValueError, match="at least one"):
        chain_graph([])


def test_a_chain_costs_its_parts() -> None:
    ops = [
        Conv(Shape(16, 16, 3), 8, kernel=3, stride=2),
        MBConv(Shape(8, 8, 8), 8, 24, 3, 1, "relu", se=True, residual=True),
        Pool(Shape(8, 8, 8), "global"),
        Linear(Shape(1, 1, 8), 10),
    ]
    graph = chain_graph(ops)
    assert graph.macs == sum(op.macs for op in ops)
    assert graph.params == sum(op.params for op in ops)
    assert graph.weight_bytes == sum(op.weight_bytes for op in ops)
