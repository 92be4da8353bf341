"""Members of a family that its name describes: other widths, images and classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import UsageError
from lutra.ops import Linear, Shape
from lutra.spaces import get_space
from lutra.spaces.variant import FamilyName, Variant, parse_family_name

SMALL = "ofa-mbv3-w0.5/classes=10/channels=1/stem=1/r=20:28:4"


def test_a_small_space_for_small_grey_images() -> None:
    space = get_space(SMALL)
    assert space.resolutions == (20, 24, 28)
    row = space.sample(1, np.random.default_rng(0))
    ops = space.ops_of(space.decode(row[0]))
    assert ops[0].input_shape.channels == 1
    assert ops[0].output_shape == Shape(*ops[0].input_shape[:2], 8)
    assert isinstance(ops[-1], Linear)
    assert ops[-1].out_features == 10


def test_listed_names_are_members_too() -> None:
    assert get_space("ofa-mbv3-w0.75").size == get_space("ofa-mbv3-w1.0").size


@pytest.mark.parametrize("width", ["-w0.25", "-w0.5", ""])
def test_narrow_resnets_count_each_network_once(width: str) -> None:
    """Where widths and expansions round to the same channels, choices are the same network."""
    name = f"ofa-resnet50d{width}/classes=10/channels=1/stem=1/r=28:28:4"
    space = get_space(name)
    rows = space.sample(3000, np.random.default_rng(1))
    networks = {tuple(space.op_indices(row[None])[0]) for row in rows}
    assert len(networks) == len(np.unique(rows, axis=0))
    lattice = space.lattice(28)
    middles = {op.key for op in space.ops_at([28])}
    assert {space.ops[edge.op].key for edge in lattice.edges if edge.op >= 0} == middles


@given(
    st.floats(0.001, 8).map(lambda width: round(width, 3)),
    st.builds(
        Variant,
        st.integers(1, 1 << 16),
        st.integers(1, 16),
        st.integers(1, 2),
        st.none() | st.tuples(st.integers(8, 60), st.integers(60, 124), st.integers(2, 30)),
    ),
)
def test_names_round_trip(width: float, variant: Variant) -> None:
    for family in ("ofa-mbv3", "ofa-resnet50d"):
        name = FamilyName(family, width, variant)
        assert parse_family_name(str(name), family.__eq__) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ofa-mbv3-w1", "write 'ofa-mbv3-w1.0'"),
        ("ofa-mbv3", "unknown space 'ofa-mbv3'"),
        ("ofa-resnet50d-w1.0", "write 'ofa-resnet50d'"),
        ("ofa-mbv3-w0.0", "above 0"),
        ("ofa-mbv3-w1.0/classes=1000", "write 'ofa-mbv3-w1.0'"),
        ("ofa-mbv3-w1.0/classes=0", "from 1 to 65536"),
        ("ofa-mbv3-w1.0/classes=99999999999999999999", "from 1 to 65536"),
        ("ofa-mbv3-w1.0/classes=\uff110", "from 1 to 65536"),
        ("ofa-mbv3-w1.0/channels=1/classes=10", "/classes=10/channels=1'"),
        ("ofa-mbv3-w1.0/colour=1", "unknown attribute 'colour'"),
        ("ofa-mbv3-w1.0/r=28", "LOW:HIGH:STEP"),
        ("ofa-mbv3-w1.0/r=8:1024:1", "at most 64 resolutions"),
        ("ofa-mbv4-w1.0", "Did you mean 'ofa-mbv3-w1.0'"),
    ],
)
def test_names_that_are_none(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        get_space(name)
