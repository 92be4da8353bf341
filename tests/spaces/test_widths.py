"""The narrower forms of a network: what belongs together stays together, paths are networks."""

import numpy as np
import pytest

from lutra.errors import UsageError
from lutra.ops import Bottleneck, MBConv, OpConfig
from lutra.spaces import get_space
from lutra.spaces.graph_widths import GraphWidthSpace
from lutra.spaces.lattice import NO_OP
from lutra.spaces.narrower import NarrowerForms
from lutra.spaces.widths import WidthSpace, width_space_name
from tests.ops.graphs import residual_graph

NAMES = ("ofa-mbv3-fashion", "ofa-proxyless-w1.3", "ofa-resnet50d")


def of_family(name: str) -> WidthSpace:
    base = get_space(name)
    return WidthSpace(base.decode(base.sample(1, np.random.default_rng(1))[0]))


@pytest.fixture(params=NAMES)
def space(request: pytest.FixtureRequest) -> WidthSpace:
    return of_family(request.param)


@pytest.fixture(params=[*NAMES, "module"])
def forms(request: pytest.FixtureRequest) -> NarrowerForms:
    """Of each family, and of a graph."""
    if request.param == "module":
        return GraphWidthSpace(residual_graph())
    return of_family(request.param)


def test_the_full_width_is_the_network(space: WidthSpace) -> None:
    assert space.ops_of(space.full) == get_space(space.base.space).ops_of(space.base)


def test_a_name_is_all_that_is_needed(space: WidthSpace) -> None:
    found = get_space(space.name)
    assert isinstance(found, WidthSpace)
    assert found.base == space.base
    architecture = found.decode(found.sample(1, np.random.default_rng(0))[0])
    assert found.from_key(architecture.key) == architecture


def test_narrower_forms_have_narrower_forms(space: WidthSpace) -> None:
    narrower = WidthSpace(space.decode(space.sample(1, np.random.default_rng(0))[0]))
    found = get_space(narrower.name)
    assert isinstance(found, WidthSpace)
    assert found.base == narrower.base
    assert found.ops_of(found.full) == space.ops_of(narrower.base)


def test_every_row_is_a_network_whose_blocks_still_expand(space: WidthSpace) -> None:
    full = [space.ops[index] for index in space.op_indices(space.choice_counts[None] - 1)[0]]
    for row in space.sample(20, np.random.default_rng(0)):
        architecture = space.decode(row)
        assert np.array_equal(space.encode(architecture), row)
        space.graph(architecture)  # raises where one op does not take what another gives
        for op, index in zip(full, space.op_indices(row[None])[0], strict=True):
            assert expands(space.ops[index]) == expands(op) or index == NO_OP


def expands(op: OpConfig) -> bool:
    return isinstance(op, MBConv) and op.mid_channels != op.input_shape.channels


def test_blocks_with_a_shortcut_may_be_left_out(space: WidthSpace) -> None:
    """Those that have channels inside to lose; nodes are called as they are at full width."""
    row = space.choice_counts - 1
    spare = [column for column, gene in enumerate(space.genes) if gene.choices[0] == 0]
    shortcuts = [
        (isinstance(op, Bottleneck) and not op.downsample)
        or (isinstance(op, MBConv) and op.residual and expands(op))
        for op in space.ops_of(space.full)
    ]
    assert len(spare) == sum(shortcuts) > 0
    row[spare[1:]] = 0
    architecture = space.decode(row)
    left = [
        op for op, shortcut in zip(space.ops_of(space.full), shortcuts, strict=True) if not shortcut
    ]
    first = shortcuts.index(True)
    left.insert(first, space.ops_of(space.full)[first])
    assert space.ops_of(architecture) == left
    full = {node.name: node for node in space.graph(space.full).nodes}
    for node in space.graph(architecture).nodes:
        same = full[space.full_names(architecture)[node.name]]
        assert (same.op, same.kernel, same.stride) == (node.op, node.kernel, node.stride)


def test_paths_are_rows(forms: NarrowerForms) -> None:
    """What is cheapest on the lattice has that sum, and nothing is cheaper."""
    prices = np.random.default_rng(2).uniform(1.0, 2.0, len(forms.ops))
    lattice = forms.lattice(forms.resolutions[0])
    least, row = lattice.cheapest(prices)
    assert np.array_equal(forms.canonical(row[None]), row[None])
    prices = np.append(prices, 0.0)  # of `NO_OP`
    assert prices[forms.op_indices(row[None])].sum() == pytest.approx(least)
    others = forms.sample(200, np.random.default_rng(0))
    assert prices[forms.op_indices(others)].sum(axis=1).min() >= least
    assert {edge.op for edge in lattice.edges} == {*range(-1, len(forms.ops))}


def test_a_lattice_has_each_network_once(forms: NarrowerForms) -> None:
    """Paths drawn by chance are canonical rows of those ops, and no two paths are one network."""
    lattice = forms.lattice(forms.resolutions[0])
    leaving = [np.flatnonzero(lattice.sources == node) for node in range(lattice.nodes)]
    rng = np.random.default_rng(0)
    paths: dict[tuple[int, ...], list[int]] = {}
    for _ in range(300):
        path: list[int] = []
        node = 0
        while node != lattice.nodes - 1:
            path.append(int(rng.choice(leaving[node])))
            node = lattice.edges[path[-1]].target
        row = lattice.edge_genes[path].sum(axis=0, dtype=np.int16)
        assert np.array_equal(forms.canonical(row[None])[0], row)
        ops = [lattice.edges[edge].op for edge in path if lattice.edges[edge].op >= 0]
        indices = forms.op_indices(row[None])[0]
        assert indices[indices != NO_OP].tolist() == ops
        assert paths.setdefault(tuple(row.tolist()), path) == path


@pytest.mark.parametrize(
    "name",
    [
        "ofa-mbv3-fashion/widths/",
        "ofa-mbv3-fashion/widths/ks=3/e=3/d=2/r=28",
        "ofa-mbv3-fashion/widths/ks=x/r=28",
        "unknown/widths/ks=3/r=28",
        "unknown" + "/widths/r=28" * 5000,
    ],
)
def test_names_of_no_network_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        get_space(name)
    assert "\n" not in str(refused.value)


def test_a_name_that_says_more_than_it_needs_is_refused() -> None:
    base = get_space("ofa-mbv3-fashion")
    architecture = base.decode(np.zeros(len(base.genes), dtype=np.int16))
    name = width_space_name(architecture)
    with pytest.raises(UsageError, match="canonical"):
        get_space(name.replace("/r=20", "/r=20.0"))
