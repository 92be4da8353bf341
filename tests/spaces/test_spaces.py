"""Spaces: published sizes, op indices, lattices, and the forms architectures are written in."""

import ast
import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import ResultError, UsageError
from lutra.ops import MBConv, OpConfig, parse_key
from lutra.search.result import read_found
from lutra.spaces import Architecture, SearchSpace, get_space, parse_architecture, space_names
from lutra.spaces.by_resolution import by_resolution
from tests.shared_data import shared_data

spaces = pytest.mark.parametrize(
    "space", [get_space(name) for name in space_names()], ids=space_names()
)


def full(space: SearchSpace) -> npt.NDArray[Any]:
    return space.canonical((space.choice_counts - 1)[None, :])


def total(space: SearchSpace, rows: npt.NDArray[Any], count: Any) -> npt.NDArray[Any]:
    counts = np.array([count(op) for op in space.ops] + [0])
    summed: npt.NDArray[Any] = counts[space.op_indices(rows)].sum(axis=1)
    return summed


# The supernets' published parameter counts include a kernel transform of 25x25 + 9x9 numbers per
# elastic block of the MBConv families.
@pytest.mark.parametrize(
    ("name", "published", "blocks"),
    [
        ("ofa-mbv3-w1.0", 7_678_880, 20),
        ("ofa-mbv3-w1.2", 10_715_752, 20),
        ("ofa-proxyless-w1.3", 7_956_882, 21),
        ("ofa-resnet50d", 48_105_992, 0),
    ],
)
def test_published_parameter_counts(name: str, published: int, blocks: int) -> None:
    space = get_space(name)
    (params,) = total(space, full(space), lambda op: op.params)
    assert params == published - blocks * (25 * 25 + 9 * 9)


def test_mobilenet_v3_has_ofa_s_number_of_op_configurations() -> None:
    for name in ("ofa-mbv3-w1.0", "ofa-mbv3-w1.2"):
        space = get_space(name)
        assert len(space.ops) == 1257
        assert all(len(space.ops_at([r])) == 96 for r in space.resolutions)


def test_our_split_of_the_others() -> None:
    """OFA's 103 ProxylessNAS keys per resolution put pooling and classifier into one."""
    for name in ("ofa-proxyless-w1.3", "ofa-proxyless-w1.0"):
        assert len(get_space(name).ops_at([224])) == 103 + 1
    assert len(get_space("ofa-resnet50d").ops_at([224])) == 163


def test_sizes() -> None:
    assert get_space("ofa-mbv3-w1.0").lattice(224).count() == (9**2 + 9**3 + 9**4) ** 5
    assert get_space("ofa-mbv3-w1.0").size == 25 * (9**2 + 9**3 + 9**4) ** 5
    proxyless = get_space("ofa-proxyless-w1.3").lattice(224)
    assert proxyless.count() == 9 * (9**2 + 9**3 + 9**4) ** 5


@spaces
def test_every_resolution_that_is_a_multiple_of_4(space: SearchSpace) -> None:
    ranges = {"ofa-resnet50d": (128, 257), "ofa-mbv3-fashion": (20, 29)}
    assert space.resolutions == tuple(range(*ranges.get(space.name, (128, 225)), 4))


@spaces
def test_units_are_unique_and_their_keys_round_trip(space: SearchSpace) -> None:
    keys = {op.key for op in space.ops}
    assert len(keys) == len(space.ops)
    assert all(parse_key(op.key) == op for op in space.ops)


@spaces
def test_random_architectures_chain_from_image_to_classes(space: SearchSpace) -> None:
    channels, classes = (1, 10) if space.name == "ofa-mbv3-fashion" else (3, 1000)
    for row in space.sample(20, np.random.default_rng(0)):
        architecture = space.decode(row)
        graph = space.graph(architecture)
        assert graph.input_shape == (architecture.r, architecture.r, channels)
        assert graph.output_shape == (1, 1, classes)
        assert graph.macs == total(space, row[None, :], lambda op: op.macs)[0]


@spaces
def test_rows_and_architectures_round_trip(space: SearchSpace) -> None:
    for row in space.sample(50, np.random.default_rng(1)):
        architecture = space.decode(row)
        assert (space.encode(architecture) == row).all()
        document = json.loads(json.dumps(architecture.to_json()))
        assert parse_architecture(document) == architecture


@spaces
def test_rows_that_differ_only_in_inert_genes_are_one_architecture(space: SearchSpace) -> None:
    rng = np.random.default_rng(2)
    raw = rng.integers(0, space.choice_counts, (400, len(space.genes)), dtype=np.int16)
    canonical = space.canonical(raw)
    assert (space.canonical(canonical) == canonical).all()
    assert (space.op_indices(raw) == space.op_indices(canonical)).all()
    assert (canonical != raw).any()


@spaces
def test_distinct_canonical_rows_are_distinct_networks(space: SearchSpace) -> None:
    rows = np.unique(space.sample(3000, np.random.default_rng(3), [space.resolutions[0]]), axis=0)
    ops = space.op_indices(rows)
    # A ResNet's neighbouring widths show in the ops too, so ops identify the architecture.
    assert len(np.unique(ops, axis=0)) == len(rows)


@spaces
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_lattice_extremes_bound_every_sample(space: SearchSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prices = rng.exponential(size=len(space.ops))
    resolution = int(rng.choice(space.resolutions))
    lowest, row = space.lattice(resolution).cheapest(prices)
    padded = np.append(prices, 0.0)
    assert padded[space.op_indices(row[None, :])].sum() == pytest.approx(lowest)
    assert (space.canonical(row[None, :]) == row).all()
    assert space.decode(row).r == resolution
    rows = space.sample(500, rng, [resolution])
    assert padded[space.op_indices(rows)].sum(axis=1).min() >= lowest - 1e-9


@spaces
def test_cheapest_by_brute_force_over_single_changes(space: SearchSpace) -> None:
    """No single gene's change improves on the optimum."""
    prices = np.random.default_rng(4).exponential(size=len(space.ops))
    padded = np.append(prices, 0.0)
    lowest, row = space.lattice(space.resolutions[0]).cheapest(prices)
    for column in range(len(space.genes) - 1):
        for choice in range(space.choice_counts[column]):
            changed = row.copy()
            changed[column] = choice
            assert padded[space.op_indices(changed[None, :])].sum() >= lowest - 1e-9


@spaces
def test_unpriced_units_are_avoided(space: SearchSpace) -> None:
    lattice = space.lattice(space.resolutions[0])
    assert np.isinf(lattice.cheapest(np.full(len(space.ops), np.nan))[0])
    prices = np.random.default_rng(5).exponential(size=len(space.ops))
    before, row = lattice.cheapest(prices)
    used = space.op_indices(row[None, :])[0]
    block = int(used[used >= 0][2])
    prices[block] = np.nan
    after, other = lattice.cheapest(prices)
    assert before < after < np.inf
    assert block not in space.op_indices(other[None, :])[0]


def test_measured_subnets_have_the_published_macs_and_parameters() -> None:
    space = get_space("ofa-mbv3-w1.0")
    rows, macs, params = [], [], []
    for file in shared_data("dynast_ofa_mbv3_w10_top1").glob("*.csv"):
        with file.open() as lines:
            for record in csv.DictReader(lines):
                document = ast.literal_eval(record["Sub-network"])
                rows.append(space.encode(parse_architecture(document, space.name)))
                macs.append(int(record["MACs"]))
                params.append(int(record["Model Parameters"]))
    assert len(rows) > 2000
    assert (total(space, np.stack(rows), lambda op: op.macs) == macs).all()
    assert (total(space, np.stack(rows), lambda op: op.params) == params).all()


def test_a_measured_subnet() -> None:
    """One of DyNAS-T's 2,223 published subnets, with its counts."""
    architecture = Architecture(
        "ofa-mbv3-w1.0",
        224,
        {
            "ks": (5, 7, 5, 5, 3, 3, 3, 7, 5, 5, 3, 7, 7, 3, 3, 3, 5, 5, 5, 5),
            "e": (4, 3, 4, 4, 4, 6, 3, 4, 4, 3, 4, 3, 3, 6, 6, 6, 4, 3, 4, 4),
            "d": (2, 3, 2, 4, 3),
        },
    )
    graph = get_space("ofa-mbv3-w1.0").graph(architecture)
    assert graph.macs == 255_502_624
    assert graph.params == 5_029_656


def ofa_key(op: OpConfig) -> str:
    """OFA's own name of a block, to compare our split with the published tables."""
    assert isinstance(op, MBConv)
    return (
        f"expanded_conv-input:{op.input_shape}-output:{op.output_shape}-expand:{op.mid_channels}"
        f"-kernel:{op.kernel}-stride:{op.stride}-idskip:{int(op.residual)}-se:{int(op.se)}"
        f"-hs:{int(op.activation == 'h_swish')}"
    )


def test_our_blocks_are_those_of_the_published_tables() -> None:
    folder = shared_data("ofa_note10_tables")
    space = get_space("ofa-mbv3-w1.2")
    for resolution in (160, 224):
        text = (folder / f"{resolution}_lookup_table.yaml").read_text()
        published = set(re.findall(r"^(expanded_conv-\S+):$", text, re.MULTILINE))
        blocks = [op for op in space.ops_at([resolution]) if isinstance(op, MBConv)]
        assert {ofa_key(op) for op in blocks} == published
        assert len(re.findall(r"^\S+:$", text, re.MULTILINE)) == len(space.ops_at([resolution]))


def test_architectures_are_equal_when_they_make_the_same_choices() -> None:
    lists = {"ks": (3,) * 20, "e": (6,) * 20, "d": (4,) * 5}
    one = Architecture("ofa-mbv3-w1.0", 224, lists)
    other = Architecture("ofa-mbv3-w1.0", 224, {**dict(reversed(lists.items())), "w": ()})
    assert {one: "kept"}[other] == "kept"
    assert one.key == other.key
    assert list(one.to_json()) == ["space", "ks", "e", "d", "r"]
    assert replace(one, r=128) != one
    assert (one["d"], one["w"]) == ((4,) * 5, ())


def test_whole_numbers_are_integers_however_they_are_written() -> None:
    document = {"ks": [3.0] * 20, "e": [4.0] * 20, "d": [2.0] * 5, "r": 160}
    written = parse_architecture(document, "ofa-mbv3-w1.0").to_json()
    assert json.dumps(written["ks"] + written["d"]) == json.dumps([3] * 20 + [2] * 5)


def test_unknown_space_names_the_known() -> None:
    with pytest.raises(UsageError, match="ofa-resnet50d"):
        get_space("imaginary")


def test_foreign_resolution() -> None:
    with pytest.raises(UsageError, match="resolution 225 is not in ofa-mbv3-w1.0"):
        get_space("ofa-mbv3-w1.0").ops_at([225])


@pytest.mark.parametrize(
    "form",
    [
        {"r": 160},
        {"r": [160]},
        {"r": 160.0},
        {"image_size": 160},
        {"r": [160.0], "image_size": 160},
        {"r": [160], "wid": None},
    ],
)
def test_the_forms_in_the_wild(form: dict[str, Any]) -> None:
    document = {"ks": [3] * 20, "e": [4] * 20, "d": [2] * 5, **form}
    architecture = parse_architecture(document, "ofa-mbv3-w1.0")
    assert architecture.r == 160
    get_space("ofa-mbv3-w1.0").encode(architecture)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ks": [3] * 19}, "'ks' has 19 entries"),
        ({"ks": [4] * 20}, "ks = 4 is not in"),
        ({"ks": ["3"] * 20}, "list of numbers"),
        ({"e": 5}, "list of numbers"),
        ({"d": [9] * 5}, "d = 9 is not in"),
        ({"r": None}, "no resolution"),
        ({"r": [128, 160]}, '"r" must be one whole number'),
        ({"r": True}, '"r" must be one whole number'),
        ({"r": 160.5}, '"r" must be one whole number'),
        ({"r": float("inf")}, '"r" must be one whole number'),
        ({"r": float("nan"), "image_size": 160}, '"r" must be one whole number'),
        ({"image_size": 128}, "r and image_size differ: leave one"),
        ({"r": 131}, "resolution 131 is not in"),
        ({"w": [1]}, "are ks, e, d, r, and 'w' is none of them"),
        ({"self": [1]}, "'self' is none of them"),
        ({"ks": []}, "'ks' is missing"),
        ({"ks": {}}, "list of numbers"),
        ({"e": 0}, "list of numbers"),
        ({"ks": [True] * 20}, "list of numbers"),
        ({"d": [float("inf")] * 5}, "d = inf is not in"),
        ({"d": [2.5] * 5}, "d = 2.5 is not in"),
        ({"d": [float("nan")] * 5}, "d = nan is not in"),
        ({"d": [10**400] * 5}, "d = "),
        ({"space": "ofa-resnet50d"}, "of space 'ofa-resnet50d', not of 'ofa-mbv3-w1.0'"),
    ],
)
def test_bad_architectures_say_why(change: dict[str, Any], says: str) -> None:
    document = {"ks": [3] * 20, "e": [4] * 20, "d": [2] * 5, "r": 160, **change}
    space = get_space("ofa-mbv3-w1.0")
    with pytest.raises((ResultError, UsageError), match=re.escape(says)):
        space.encode(parse_architecture(document, space.name))


@pytest.mark.parametrize("content", ["", "{", "[1]", '"x"', "[" * 100_000, '{"ks": []}'])
def test_bad_architecture_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "arch.json"
    path.write_text(content)
    with pytest.raises(ResultError) as raised:
        read_found(path, "ofa-mbv3-w1.0")
    assert "\n" not in str(raised.value)


def test_a_truth_value_is_no_choice_where_1_is_one() -> None:
    space = get_space("ofa-resnet50d")
    document = space.decode(space.sample(1, np.random.default_rng(0))[0]).to_json()
    document["d"] = [True for _ in document["d"]]
    with pytest.raises(ResultError, match='"d" must be a list of numbers'):
        parse_architecture(document)


def test_a_resnet_is_told_from_the_table_s_space(tmp_path: Path) -> None:
    """As OFA writes it: without the name of its space."""
    path = tmp_path / "arch.json"
    document = {"d": [2, 0, 0, 1, 1], "e": [0.2] * 18, "w": [0] * 6, "image_size": 224}
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError) as raised:
        read_found(path, "ofa-mbv3-w1.0")
    assert str(raised.value) == (
        f"{path}: the lists of ofa-mbv3-w1.0 are ks, e, d, r, and 'w' is none of them:"
        " is the architecture of another space?"
    )


def test_the_architecture_of_a_key() -> None:
    space, other = get_space("ofa-mbv3-w1.0"), get_space("ofa-mbv3-w1.2")
    architecture = space.decode(space.sample(1, np.random.default_rng(0))[0])
    assert space.from_key(architecture.key) == architecture
    assert other.from_key(architecture.key) is None
    for key in ("", "{", "[" * 100_000, "[1]", '{"space":"ofa-mbv3-w1.0"}'):
        with pytest.raises(ResultError):
            space.from_key(key)


def test_missing_architecture_file(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="cannot read"):
        read_found(tmp_path / "none.json")


@settings(max_examples=20)
@given(st.data(), st.integers(0, 2**31))
def test_ops_told_apart_by_resolution(data: st.DataObject, seed: int) -> None:
    """The same networks of the same ops; each op has but one resolution."""
    space = data.draw(st.sampled_from(["ofa-mbv3-w1.0", "ofa-proxyless-w1.3"]).map(get_space))
    apart = by_resolution(space)
    assert by_resolution(apart) is by_resolution(space) is apart
    rng = np.random.default_rng(seed)
    resolutions = sorted(rng.choice(space.resolutions, 3, replace=False).tolist())
    rows = space.sample(10, rng, resolutions)
    assert np.array_equal(apart.canonical(rows), rows)
    for row in rows:
        indices = apart.op_indices(row[None, :])[0]
        assert apart.decode(row) == space.decode(row)
        assert apart.ops_of(apart.decode(row)) == space.ops_of(space.decode(row))
        r = space.decode(row).r
        assert {apart.op_resolutions[index] for index in indices if index >= 0} == {r}
    prices = rng.uniform(0.1, 1.0, len(apart.ops))
    total, row = apart.lattice(resolutions[0]).cheapest(prices)
    costs = np.append(prices, 0.0)[apart.op_indices(rows)].sum(axis=1)
    at_first = rows[:, -1] == space.resolutions.index(resolutions[0])
    assert np.all(total <= costs[at_first] + 1e-9)
    assert total == pytest.approx(np.append(prices, 0.0)[apart.op_indices(row[None, :])].sum())
