"""Accuracy predictors: encodings, the bundled model, OFA's files, hostile files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import AccuracyError, UsageError
from lutra.files.plain_pickle import Call, read_pickle
from lutra.files.torch_file import Storage, Tensor
from lutra.predictors.accuracy import (
    AccuracyPredictor,
    AdditivePredictor,
    OfaMlpPredictor,
    load_accuracy,
)
from lutra.predictors.accuracy import ofa_mlp as ofa_mlp_module
from lutra.predictors.accuracy.loading import MAX_FILE_BYTES, MAX_JSON_BYTES
from lutra.spaces import Architecture, Rows, SearchSpace, get_space, parse_architecture

W10 = get_space("ofa-mbv3-w1.0")
W12 = get_space("ofa-mbv3-w1.2")
PROXYLESS = get_space("ofa-proxyless-w1.3")
RESNET = get_space("ofa-resnet50d")

RESNET_RESOLUTIONS = [128, 144, 160, 176, 192, 224, 240, 256]

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no measured data in {DATA}")

State = dict[str, torch.Tensor]

_OPERATIONS = [  # of pickles, with small arguments
    *(b"(", b")", b"t", b"\x85", b"\x86", b"\x87", b"]", b"}", b"a", b"e", b"s", b"u", b"N"),
    *(b"R", b"b", b"Q", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"K\x01", b"\x88", b"0", b"2"),
    *(b"X\x01\x00\x00\x00k", b"ccollections\nOrderedDict\n", b"cos\nsystem\n", b"\x8a\x01\x05"),
]


def uniform(space: SearchSpace, kernel: int, expansion: float, depth: int, r: int) -> Rows:
    """One row: the architecture of an MBConv space that makes the same choice everywhere."""
    blocks, stages = len(space.columns("ks")), len(space.columns("d"))
    same = Architecture(
        space.name, r, {"ks": [kernel] * blocks, "e": [expansion] * blocks, "d": [depth] * stages}
    )
    return space.encode(same)[None, :]


def rows_of(space: SearchSpace, count: int, resolutions: list[int] | None = None) -> Rows:
    return space.sample(count, np.random.default_rng(1), resolutions)


# References: one architecture at a time, written from the description of the formats.


def mobilenet_features(arch: Architecture, blocks: int) -> tuple[list[int], list[int]]:
    kernels, expansions = [0] * 3 * blocks, [0] * 3 * blocks
    for block in range(blocks):
        if block % 4 < arch["d"][block // 4]:
            kernels[3 * block + {3: 0, 5: 1, 7: 2}[int(arch["ks"][block])]] = 1
            expansions[3 * block + {3: 0, 4: 1, 6: 2}[int(arch["e"][block])]] = 1
    return kernels, expansions


def one_hot(value: int, values: list[int]) -> list[int]:
    return [int(value == each) for each in values]


def tutorial_features(arch: Architecture) -> list[int]:
    kernels, expansions = mobilenet_features(arch, 20)
    resolution = [0] * 8
    resolution[(arch.r - 112) // 16] = 1
    return kernels + expansions + resolution


def library_features(arch: Architecture, resolutions: list[int]) -> list[int]:
    kernels, expansions = mobilenet_features(arch, len(arch["ks"]))
    return one_hot(arch.r, resolutions) + kernels + expansions


def resnet_features(arch: Architecture) -> list[int]:
    stem = [0, 1] if arch["d"][0] > 0 else [1, 0]
    widths = [bit for width in arch["w"] for bit in one_hot(int(width), [0, 1, 2])]
    expansions: list[int] = []
    start = 0
    for base, extra in zip([2, 2, 4, 2], arch["d"][1:], strict=True):
        for block in range(start, start + base + 2):
            used = block < start + base + extra
            expansions += [int(used and arch["e"][block] == e) for e in (0.2, 0.25, 0.35)]
        start += base + 2
    return one_hot(arch.r, RESNET_RESOLUTIONS) + stem + widths + expansions


def tutorial_state(features: int = 128, hidden: int = 16, seed: int = 0) -> State:
    """A predictor that gives plausible fractions."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [features, hidden, hidden, hidden, 1]
    state = {}
    for index, (before, after) in enumerate(pairwise(sizes)):
        weight = torch.randn(after, before, generator=generator) / before**0.5
        state[f"{2 * index}.weight"] = weight * (0.02 if after == 1 else 1)
        state[f"{2 * index}.bias"] = torch.randn(after, generator=generator) * 0.1
    state["6.bias"] = torch.tensor([0.75])
    return state


def library_state(features: int, hidden: int = 16) -> State:
    flat = tutorial_state(features, hidden)
    state = {
        f"layers.{index}.0.{part}": flat[f"{2 * index}.{part}"]
        for index in range(3)
        for part in ("weight", "bias")
    }
    return {**state, "layers.3.weight": flat["6.weight"], "base_acc": torch.tensor([0.8056])}


def slow_top1(state: State, features: list[int]) -> float:
    """One architecture through torch, in double precision; percent."""
    values = torch.tensor(features, dtype=torch.float64)
    weights = [value.double() for name, value in sorted(state.items()) if name.endswith("weight")]
    biases = [value.double() for name, value in sorted(state.items()) if name.endswith("bias")]
    for weight, bias in zip(weights[:3], biases[:3], strict=True):
        values = torch.relu(weight @ values + bias)
    added = biases[3] if len(biases) == 4 else state["base_acc"].double()
    return 100 * float(weights[3] @ values + added)


def write(path: Path, state: Mapping[str, Any], **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


def error_of(path: Path, space: SearchSpace = W12) -> str:
    """The message with which a file is refused: one line that names it."""
    with pytest.raises(AccuracyError) as caught:
        load_accuracy(path, space)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# OFA's predictors


@pytest.mark.parametrize("space", [W10, W12])
def test_tutorial_encoding_is_exact(space: SearchSpace, tmp_path: Path) -> None:
    predictor = load_accuracy(write(tmp_path / "p.pth", tutorial_state()), space)
    assert isinstance(predictor, OfaMlpPredictor)
    rows = rows_of(space, 500, list(predictor.resolutions))
    expected = [tutorial_features(space.decode(row)) for row in rows]
    np.testing.assert_array_equal(predictor.encoding.encode(rows), expected)


@pytest.mark.parametrize("resolutions", [[224], [128, 160, 192, 224], list(range(128, 225, 4))])
@pytest.mark.parametrize("space", [W10, PROXYLESS])
def test_library_encoding_is_exact(
    space: SearchSpace, resolutions: list[int], tmp_path: Path
) -> None:
    blocks = len(space.columns("ks"))
    state = library_state(6 * blocks + len(resolutions))
    predictor = load_accuracy(write(tmp_path / "p.pth", state), space)
    assert isinstance(predictor, OfaMlpPredictor)
    assert list(predictor.resolutions) == resolutions
    rows = rows_of(space, 300, resolutions)
    expected = [library_features(space.decode(row), resolutions) for row in rows]
    np.testing.assert_array_equal(predictor.encoding.encode(rows), expected)


def test_resnet_encoding_is_exact(tmp_path: Path) -> None:
    predictor = load_accuracy(write(tmp_path / "p.pth", library_state(82)), RESNET)
    assert isinstance(predictor, OfaMlpPredictor)
    assert list(predictor.resolutions) == RESNET_RESOLUTIONS  # published without 208
    rows = rows_of(RESNET, 500, RESNET_RESOLUTIONS)
    expected = [resnet_features(RESNET.decode(row)) for row in rows]
    np.testing.assert_array_equal(predictor.encoding.encode(rows), expected)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40))
def test_inert_genes_have_no_influence(seed: int, count: int) -> None:
    predictor = OfaMlpPredictor.from_bytes(_saved(tutorial_state()), "a file", W12)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, W12.choice_counts, (count, len(W12.genes)), dtype=np.int16)
    rows[:, -1] = rng.choice(W12.resolution_indices(predictor.resolutions), count)
    np.testing.assert_allclose(predictor.predict(rows), predictor.predict(W12.canonical(rows)))


@pytest.mark.parametrize(
    ("space", "state", "features"),
    [
        (W12, tutorial_state(), tutorial_features),
        (W12, library_state(124), lambda a: library_features(a, [128, 160, 192, 224])),
        (RESNET, library_state(82), resnet_features),
    ],
)
def test_predictions_match_a_slow_reference(
    space: SearchSpace,
    state: State,
    features: Callable[[Architecture], list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ofa_mlp_module, "_CHUNK", 7)  # several chunks and a rest
    predictor = load_accuracy(write(tmp_path / "p.pth", state), space)
    rows = rows_of(space, 60, list(predictor.resolutions))
    expected = [slow_top1(state, features(space.decode(row))) for row in rows]
    predicted = predictor.predict(rows)
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted, expected, atol=1e-3)


def test_reads_what_training_code_saves(tmp_path: Path) -> None:
    """The old file format, parameters instead of tensors, half precision, a wrapping."""
    expected = OfaMlpPredictor.from_bytes(_saved(library_state(124)), "a file", W10)
    rows = rows_of(W10, 20, [128, 224])
    parameters = {
        name: torch.nn.Parameter(value, requires_grad=True)
        for name, value in library_state(124).items()
    }
    forms: list[tuple[Mapping[str, Any], dict[str, Any]]] = [
        (library_state(124), {"_use_new_zipfile_serialization": False}),
        ({"state_dict": library_state(124)}, {}),
        (parameters, {}),
        ({n: v.double() for n, v in library_state(124).items()}, {}),
        ({**library_state(124), "base_acc": torch.tensor(0.8056)}, {}),
    ]
    for state, options in forms:
        predictor = load_accuracy(write(tmp_path / "p.pth", state, **options), W10)
        np.testing.assert_allclose(predictor.predict(rows), expected.predict(rows), atol=1e-4)


def test_resolutions_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "p.pth", library_state(122))
    assert "resolutions=[...]" in error_of(path, W10)
    predictor = load_accuracy(path, W10, resolutions=[132, 300])
    assert predictor.resolutions == (132,)  # 300 is encoded, but not of the space
    predictor.predict(rows_of(W10, 5, [132]))
    for wrong in ([132], [132, 132], [300, 400]):
        with pytest.raises(AccuracyError):
            load_accuracy(path, W10, resolutions=wrong)
    with pytest.raises(AccuracyError, match="fixed"):
        load_accuracy(write(tmp_path / "t.pth", tutorial_state()), W10, resolutions=[224])


def test_unknown_resolution_is_refused(tmp_path: Path) -> None:
    predictor = load_accuracy(write(tmp_path / "p.pth", tutorial_state()), W12)
    assert predictor.resolutions == tuple(range(128, 225, 16))
    with pytest.raises(AccuracyError, match="no accuracy at resolution 132; choose from 128, 144"):
        predictor.predict(rows_of(W12, 3, [132]))


def test_provenance_states_what_is_assumed(tmp_path: Path) -> None:
    path = write(tmp_path / "p.pth", library_state(124))
    provenance = load_accuracy(path, W10).provenance
    assert str(path) in provenance
    assert "128, 160, 192, 224" in provenance
    assert W10.name in provenance


# Hostile files


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_never_executed(zipped: bool, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    path = tmp_path / "bomb.pth"
    state = {**tutorial_state(), "0.bias": Bomb(sprung)}
    write(path, state, _use_new_zipfile_serialization=zipped)
    assert "code" in error_of(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)  # the bomb is live
    assert sprung.exists()


def test_plain_pickle_bomb_is_never_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(Bomb(sprung)))
    error_of(path)
    assert not sprung.exists()


def test_not_a_file(tmp_path: Path) -> None:
    assert "not a file" in error_of(tmp_path)
    assert "not a file" in error_of(tmp_path / "missing.pth")


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "larger than 64 MiB" in error_of(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files(zipped: bool, tmp_path: Path) -> None:
    data = _saved(tutorial_state(), zipped=zipped)
    path = tmp_path / "p.pth"
    for length in [*range(0, len(data), len(data) // 40), len(data) - 1]:
        path.write_bytes(data[:length])
        error_of(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), zipped=st.booleans())
def test_damaged_files_raise_nothing_else(data: st.DataObject, zipped: bool) -> None:
    content = bytearray(_saved(tutorial_state(), zipped=zipped))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(AccuracyError):  # a damaged weight may still be a weight
        predictor = OfaMlpPredictor.from_bytes(bytes(content), "a file", W12)
        predictor.predict(rows_of(W12, 2, [224]))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02"]))
def test_arbitrary_bytes_raise_nothing_else(content: bytes, start: bytes) -> None:
    with pytest.raises(AccuracyError):
        OfaMlpPredictor.from_bytes(start + content, "a file", W12)


def test_archive_that_inflates_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    state = {"0.weight": torch.zeros(1 << 23)}
    path.write_bytes(_rezipped(_saved(state), lambda _, content: content, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 1 << 20
    assert "another kind" in error_of(path)


def test_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Even one that does not inflate: its declared sizes could be lies."""
    path = tmp_path / "p.pth"
    data = _saved(tutorial_state())
    path.write_bytes(_rezipped(data, lambda _, content: content))
    load_accuracy(path, W12)
    path.write_bytes(_rezipped(data, lambda _, content: content, zipfile.ZIP_DEFLATED))
    assert "another kind" in error_of(path)


def test_deep_nesting_does_not_end_the_process(tmp_path: Path) -> None:
    """Hashing a tuple nested a million deep overflows the C stack: in a process of its own."""
    nested = b"\x80\x02})" + b"\x85" * 2_000_000 + b"K\x01s."
    archive = _saved(tutorial_state())
    instead = _rezipped(archive, lambda name, was: nested if name.endswith(".pkl") else was)
    hidden = _renamed(instead, "data.pkl", "data.PKL")  # which torch finds by that name
    paths = [tmp_path / name for name in ("nested.pth", "instead.pth", "hidden.pth")]
    for path, data in zip(paths, (nested, instead, hidden), strict=True):
        path.write_bytes(data)
    script = (
        "import sys; from pathlib import Path; from lutra.spaces import get_space\n"
        "from lutra.predictors.accuracy import load_accuracy\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    try: load_accuracy(path, get_space('ofa-mbv3-w1.2'))\n"
        "    except Exception as error: print(path.name, type(error).__name__, flush=True)\n"
    )
    command = [sys.executable, "-c", script, *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    said = "".join(f"{path.name} AccuracyError\n" for path in paths)
    assert (result.returncode, result.stdout) == (0, said), result.stderr


def test_only_the_pickle_of_an_archive_is_read(tmp_path: Path) -> None:
    """Also where another has its name but for upper case."""
    archive = _saved(tutorial_state())
    path = tmp_path / "p.pth"
    path.write_bytes(_with_member(archive, "archive/data.PKL", b"\x80\x02})" + b"\x85" * 2_000_000))
    load_accuracy(path, W12)
    path.write_bytes(_with_member(archive, "another/data.pkl", b"\x80\x02}."))
    assert "another kind" in error_of(path)


def test_an_archive_of_many_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5000):
            archive.writestr(f"archive/data/{number}", b"")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    assert "another kind" in error_of(path)


def test_reading_takes_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "p.pth", tutorial_state())
    script = (
        "import sys; from lutra.predictors.accuracy import load_accuracy\n"
        "load_accuracy(sys.argv[1], 'ofa-mbv3-w1.2'); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert result.stdout == "False\n", result.stderr


def _tensor_pickle(storage: bytes, numbers: bytes) -> bytes:
    """An older file of one parameter, its storage's id and the numbers of its shape as given."""
    head = b"".join(pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001))
    system = pickle.dumps({"little_endian": True}, 2)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + numbers + b"\x89}tR"
    state = b"\x80\x02}X\x08\x00\x00\x000.weight" + tensor + b"s."
    return head + system + state + pickle.dumps(["0"], 2) + (1).to_bytes(8, "little") + bytes(4)


_STORAGE = b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


@pytest.mark.parametrize(
    ("storage", "numbers", "said"),
    [
        (_STORAGE + b"K\x01N", b"K\x00K\x01\x85K\x01\x85", "other parameters"),  # a sound one
        (_STORAGE + b"K\x02N", b"K\x00K\x01\x85K\x01\x85", "another kind"),
        (_STORAGE + b"J\xff\xff\xff\xffN", b"K\x00K\x01\x85K\x01\x85", "another kind"),
        (_STORAGE + b"K\x01K\x01", b"K\x00K\x01\x85K\x01\x85", "another kind"),
        (_STORAGE + b"K\x01N", b"K\x00J\xff\xff\xff\xff\x85K\x01\x85", "another kind"),
        (_STORAGE + b"K\x01N", b"K\x00K\x01\x85)", "another kind"),
        (_STORAGE + b"K\x01N", b"\x88K\x01\x85K\x01\x85", "another kind"),
        (b"NNNNN", b"K\x00K\x01\x85K\x01\x85", "another kind"),
    ],
)
def test_tensors_that_cannot_be(storage: bytes, numbers: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p.pth"
    path.write_bytes(_tensor_pickle(storage, numbers))
    assert said in error_of(path)


def test_a_shape_beyond_its_storage_is_refused() -> None:
    for tensor in (
        Tensor(Storage(np.dtype("<f4"), 6, bytes(24)), 0, (2, 3), (3, 1)),
        Tensor(Storage(np.dtype("<f4"), 1, bytes(4)), 0, (2, 3), (0, 0)),
        Tensor(Storage(np.dtype("<f4"), 1, bytes(4)), 0, (1, 1), (10**40, 10**40)),
    ):
        assert tensor.array().shape == tensor.shape
    for offset, strides in ((1, (3, 1)), (0, (4, 1)), (10**40, (3, 1)), (0, (10**40, 1))):
        with pytest.raises(ValueError, match="beyond"):
            Tensor(Storage(np.dtype("<f4"), 6, bytes(24)), offset, (2, 3), strides).array()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_OPERATIONS), max_size=60))
def test_pickles_of_any_operations_raise_nothing_else(operations: list[bytes]) -> None:
    data = b"\x80\x02" + b"".join(operations) + b"."
    with contextlib.suppress(Exception):  # what the reader of a file turns into one error
        read_pickle(io.BytesIO(data), {"collections OrderedDict": Call(dict)}, lambda _: None)
    with pytest.raises(AccuracyError):
        OfaMlpPredictor.from_bytes(data, "a file", W12)


def test_huge_shape_over_small_storage_is_not_materialised(tmp_path: Path) -> None:
    state = tutorial_state()
    state["0.weight"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    assert "0.weight has the shape" in error_of(write(tmp_path / "p.pth", state))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.weight": torch.zeros(16, 127)}, "takes 127 features where ofa-mbv3-w1.2 has 128"),
        ({"2.weight": torch.zeros(16, 15)}, "do not fit together"),
        ({"2.bias": torch.zeros(15)}, "2.bias does not fit"),
        ({"2.bias": torch.zeros(16, 1)}, "2.bias has the shape"),
        ({"6.weight": torch.zeros(2, 16), "6.bias": torch.zeros(2)}, "2 outputs"),
        ({"4.weight": torch.full((16, 16), torch.nan)}, "4.weight holds values that are not"),
        ({"4.bias": torch.full((16,), -torch.inf)}, "4.bias holds values that are not"),
        ({"4.bias": torch.zeros(16, dtype=torch.int64)}, "4.bias is not an array"),
        ({"4.bias": torch.zeros(16).to_sparse()}, "another kind"),
        ({"4.bias": [0.0] * 16}, "4.bias is not an array"),
        ({"4.bias": torch.zeros(0), "4.weight": torch.zeros(0, 16)}, "4.weight has the shape"),
        ({"8.weight": torch.zeros(1)}, "other parameters"),
        ({0: torch.zeros(1)}, "no named parameters"),
    ],
)
def test_wrong_contents(change: dict[Any, Any], said: str, tmp_path: Path) -> None:
    assert said in error_of(write(tmp_path / "p.pth", {**tutorial_state(), **change}))


def test_wrong_base_accuracy(tmp_path: Path) -> None:
    state = {**library_state(82), "base_acc": torch.zeros(2)}
    assert "base_acc" in error_of(write(tmp_path / "p.pth", state), RESNET)


def test_other_files_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "p.pth"
    for content in (torch.zeros(3), [1, 2], {"a": 1}, torch.nn.Linear(2, 2)):
        torch.save(content, path)
        error_of(path)


def test_predictor_of_another_space(tmp_path: Path) -> None:
    resnet = write(tmp_path / "resnet.pth", library_state(82))
    assert "takes 82 features" in error_of(resnet, W10)
    mobilenet = write(tmp_path / "mobilenet.pth", tutorial_state())
    assert "another search space" in error_of(mobilenet, RESNET)
    assert "another search space" in error_of(mobilenet, PROXYLESS)
    assert "another space" in error_of(write(tmp_path / "m.pth", library_state(124)), RESNET)


def test_percent_instead_of_fractions_is_refused(tmp_path: Path) -> None:
    state = {**tutorial_state(), "6.bias": torch.tensor([75.0])}
    predictor = load_accuracy(write(tmp_path / "p.pth", state), W12)
    with pytest.raises(AccuracyError, match="outside 0 to 100"):
        predictor.predict(rows_of(W12, 3, [224]))


def test_overflow_is_refused(tmp_path: Path) -> None:
    state = {name: torch.full_like(value, 1e30) for name, value in tutorial_state().items()}
    predictor = load_accuracy(write(tmp_path / "p.pth", state), W12)
    with pytest.raises(AccuracyError, match="outside 0 to 100"):
        predictor.predict(rows_of(W12, 3, [224]))


# The bundled model


@pytest.fixture(scope="module")
def bundled() -> AdditivePredictor:
    predictor = load_accuracy(space="ofa-mbv3-w1.0")
    assert isinstance(predictor, AdditivePredictor)
    return predictor


def test_bundled_says_what_it_is(bundled: AdditivePredictor) -> None:
    assert bundled.space == "ofa-mbv3-w1.0"
    assert bundled.resolutions == (224,)
    assert "DyNAS-T" in bundled.provenance
    assert "Apache-2.0" in bundled.provenance
    assert "extrapolation" in bundled.provenance
    assert bundled.quality["r2"] > 0.99
    assert bundled.quality["rmse_percent"] < 0.1
    assert bundled.quality["kendall_tau"] > 0.95


def test_bundled_matches_a_slow_reference(bundled: AdditivePredictor) -> None:
    document = _bundled_document()
    rows = rows_of(W10, 300, [224])
    expected = [_slow_additive(document, W10.decode(row)) for row in rows]
    np.testing.assert_allclose(bundled.predict(rows), expected, atol=1e-9)


def _slow_additive(document: dict[str, Any], arch: Architecture) -> float:
    tables = document["coefficients"]
    score = document["intercept"]
    for stage, depth in enumerate(arch["d"]):
        score += tables["d"][stage][[2, 3, 4].index(int(depth))]
        for block in range(4 * stage, 4 * stage + int(depth)):
            score += tables["ks"][block][[3, 5, 7].index(int(arch["ks"][block]))]
            score += tables["e"][block][[3, 4, 6].index(int(arch["e"][block]))]
    return float(document["ceiling_percent"] - np.exp(-score))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bundled_is_sane_everywhere(seed: int) -> None:
    predictor = load_accuracy(space="ofa-mbv3-w1.0")
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, W10.choice_counts, (64, len(W10.genes)), dtype=np.int16)
    rows[:, -1] = W10.resolution_indices([224])[0]
    predicted = predictor.predict(rows)
    np.testing.assert_array_equal(predicted, predictor.predict(W10.canonical(rows)))
    smallest = predictor.predict(uniform(W10, 3, 3, 2, 224))
    assert np.all((predicted > smallest - 0.5) & (predicted < 79.2))


def test_bundled_rises_with_size(bundled: AdditivePredictor) -> None:
    steps = [(3, 3, 2), (3, 3, 3), (3, 4, 3), (5, 4, 3), (5, 6, 4), (7, 6, 4)]
    predicted = [float(bundled.predict(uniform(W10, k, e, d, 224))[0]) for k, e, d in steps]
    assert predicted == sorted(predicted)
    assert 70 < predicted[0] < 72
    assert 77 < predicted[-1] < 78


def test_depth_and_expansion_never_hurt(bundled: AdditivePredictor) -> None:
    """Of the coefficients, those of depth and of the largest expansion are all positive."""
    depths = bundled.coefficients[W10.columns("d"), :3]
    assert np.all(np.diff(depths, axis=1) > 0)
    assert np.all(bundled.coefficients[W10.columns("e"), 2] > 0)


def test_edge_scores_add_up_to_predictions(bundled: AdditivePredictor) -> None:
    """The best path by edge scores is the best architecture: brute force over a random sample."""
    lattice = W10.lattice(224)
    scores = bundled.edge_scores(lattice)
    best = np.full(lattice.nodes, -np.inf)
    best[0] = bundled.intercept
    chosen: dict[int, int] = {}
    for index, edge in enumerate(lattice.edges):
        if best[edge.source] + scores[index] > best[edge.target]:
            best[edge.target] = best[edge.source] + scores[index]
            chosen[edge.target] = index
    row = np.zeros((1, len(W10.genes)), dtype=np.int16)
    node = lattice.nodes - 1
    while node in chosen:
        for column, choice in lattice.edges[chosen[node]].genes:
            row[0, column] = choice
        node = lattice.edges[chosen[node]].source
    np.testing.assert_allclose(bundled.scores(row), best[-1])
    np.testing.assert_allclose(bundled.predict(row), bundled.accuracy_of(best[-1:]))
    assert np.all(bundled.predict(rows_of(W10, 5000, [224])) <= bundled.predict(row))


def test_scores_and_accuracies_convert(bundled: AdditivePredictor) -> None:
    accuracies = np.array([70.0, 75.0, 77.5])
    np.testing.assert_allclose(bundled.accuracy_of(bundled.score_of(accuracies)), accuracies)
    assert np.all(np.isinf(bundled.score_of(np.array([bundled.ceiling, 90.0]))))


def test_rows_are_checked(bundled: AdditivePredictor) -> None:
    rows = rows_of(W10, 3, [224])
    assert bundled.predict(rows[:0]).shape == (0,)
    for wrong in (rows[:, :-1], rows[0], rows_of(RESNET, 2)):
        with pytest.raises(AccuracyError, match="needs rows of 46 genes"):
            bundled.predict(wrong)
    with pytest.raises(AccuracyError, match="choices"):
        bundled.predict(rows - 1)
    with pytest.raises(AccuracyError, match="at resolution 128; choose from 224"):
        bundled.predict(rows_of(W10, 3, [128]))


def test_spaces_without_a_bundled_predictor() -> None:
    for space in (W12, RESNET, PROXYLESS):
        with pytest.raises(AccuracyError, match="--accuracy FILE"):
            load_accuracy(space=space.name)
    with pytest.raises(UsageError, match="unknown space"):
        load_accuracy(space="../../etc/passwd")


def test_additive_file_can_be_named(bundled: AdditivePredictor, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(_bundled_document()))
    rows = rows_of(W10, 10, [224])
    np.testing.assert_array_equal(load_accuracy(path, W10).predict(rows), bundled.predict(rows))
    assert "not of ofa-mbv3-w1.2" in error_of(path, W12)


def _set(*keys: str | int, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("format", to="other"), "not an additive accuracy model"),
        (_set("version", to=3), "another version"),
        (_set("space", to=["x" * 1000]), "not of ofa-mbv3-w1.0"),
        (_set("resolution", to=225), "its resolutions are not"),
        (_set("intercept", to=float("nan")), "'intercept' is missing or not"),
        (_set("ceiling_percent", to="79"), "'ceiling_percent' is missing or not"),
        (_set("ceiling_percent", to=100.5), "outside 0 to 100 %"),
        (_set("ceiling_percent", to=-3.0), "outside 0 to 100 %"),
        (
            lambda document: (
                _set("intercept", to=50)(document) or _set("ceiling_percent", to=-1000)(document)
            ),
            "outside 0 to 100 %",
        ),
        (_set("intercept", to=-900.0), "outside 0 to 100 %"),
        (_set("coefficients", "d", 1, to=[0, -900, 0]), "outside 0 to 100 %"),
        (_set("quality", to=[1]), "quality"),
        (_set("quality", "r2", to=None), "'r2'"),
        (_set("coefficients", to=None), "coefficients must be those of d, e, ks"),
        (_set("coefficients", "w", to=[]), "coefficients must be those of d, e, ks"),
        (_set("coefficients", "d", to=[[0, 1, 2]]), "'d' must have 5 lists"),
        (_set("coefficients", "d", 1, to=[0, 1]), "'d' needs 3 numbers"),
        (_set("coefficients", "ks", 3, 1, to=float("inf")), "not a sensible number"),
        (_set("coefficients", "ks", 3, 1, to=10**400), "not a sensible number"),
        (_set("coefficients", "e", 3, 0, to=0.5), "first choice the coefficient 0"),
    ],
)
def test_wrong_additive_files(change: Callable[[Any], None], said: str, tmp_path: Path) -> None:
    document = _bundled_document()
    change(document)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document))
    assert said in error_of(path, W10)


@pytest.mark.parametrize("text", ["{", '{"a":' * 100_000, "{}", '{"format": 1' + "0" * 5000 + "}"])
def test_hostile_json(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    error_of(path, W10)


def test_large_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"a": "' + "x" * MAX_JSON_BYTES + '"}')
    assert "too large" in error_of(path, W10)


def test_every_predictor_meets_the_contract(bundled: AdditivePredictor) -> None:
    predictors: list[AccuracyPredictor] = [
        bundled,
        OfaMlpPredictor.from_bytes(_saved(tutorial_state()), "a file", W12),
        OfaMlpPredictor.from_bytes(_saved(library_state(82)), "a file", RESNET),
    ]
    for predictor in predictors:
        space = get_space(predictor.space)
        assert set(predictor.resolutions) <= set(space.resolutions)
        assert predictor.name
        assert predictor.provenance
        rows = rows_of(space, 9, list(predictor.resolutions))
        given = rows.copy()
        predicted = predictor.predict(rows)
        assert predicted.shape == (9,)
        assert predicted.dtype == np.float64
        np.testing.assert_array_equal(rows, given)  # left as it was
        order = np.arange(9)[::-1]
        np.testing.assert_allclose(predictor.predict(rows[order]), predicted[order])


# Against measured data, where it lies beside the repository


@needs_data
def test_bundled_against_measured_subnets(bundled: AdditivePredictor) -> None:
    rows, top1 = _measured()
    residuals = bundled.predict(rows) - top1
    assert len(top1) == 2162
    assert np.sqrt(np.mean(residuals**2)) < 0.075
    assert abs(np.mean(residuals)) < 0.01


@pytest.mark.slow  # half a minute
@needs_data
def test_fitting_again_gives_the_bundled_model(tmp_path: Path) -> None:
    output = tmp_path / "model.json"
    folder = DATA / "dynast_ofa_mbv3_w10_top1"
    command = [sys.executable, "tools/fit_accuracy.py", str(folder), "-o", str(output)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=280)
    fitted, document = json.loads(output.read_text()), _bundled_document()
    assert fitted["quality"] == pytest.approx(document["quality"], abs=2e-4)
    assert fitted["ceiling_percent"] == document["ceiling_percent"]
    for width, table in document["coefficients"].items():
        np.testing.assert_allclose(fitted["coefficients"][width], table, atol=1e-5)


@needs_data
def test_published_predictor() -> None:
    path = DATA / "ofa_accuracy_predictor" / "acc_predictor.pth"
    predictor = load_accuracy(path, W12)
    assert "publish for ofa-mbv3-w1.2" in predictor.provenance
    state = torch.load(path, weights_only=True, map_location="cpu")
    rows = rows_of(W12, 50, list(predictor.resolutions))
    expected = [slow_top1(state, tutorial_features(W12.decode(row))) for row in rows]
    np.testing.assert_allclose(predictor.predict(rows), expected, atol=1e-3)
    corners = [(3, 3, 2, 128), (3, 3, 2, 224), (7, 6, 4, 128), (7, 6, 4, 224)]
    top1 = [float(predictor.predict(uniform(W12, *corner))[0]) for corner in corners]
    assert top1 == pytest.approx([76.672, 77.739, 82.547, 83.593], abs=0.01)
    assert "is OFA's predictor for ofa-mbv3-w1.2" in error_of(path, W10)


def _measured() -> tuple[Rows, npt.NDArray[np.float64]]:
    import ast
    import csv

    found: dict[bytes, list[float]] = {}
    for path in sorted((DATA / "dynast_ofa_mbv3_w10_top1").glob("*.csv")):
        with path.open(newline="") as file:
            for record in csv.DictReader(file):
                settings_ = ast.literal_eval(record["Sub-network"])
                row = W10.encode(parse_architecture(settings_, W10.name))
                found.setdefault(row.tobytes(), []).append(float(record["Top-1 Acc (%)"]))
    rows = np.array([np.frombuffer(key, dtype=np.int16) for key in found])
    return rows, np.array([np.mean(values) for values in found.values()])


def _bundled_document() -> dict[str, Any]:
    path = REPOSITORY / "lutra" / "predictors" / "accuracy" / "ofa-mbv3-w1.0.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _saved(state: Mapping[str, Any], zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _renamed(data: bytes, name: str, other: str) -> bytes:
    assert len(name) == len(other)
    return data.replace(name.encode(), other.encode())


def _with_member(data: bytes, name: str, content: bytes) -> bytes:
    result = io.BytesIO(_rezipped(data, lambda _, was: was))
    with zipfile.ZipFile(result, "a") as archive:
        archive.writestr(name, content)
    return result.getvalue()


def _rezipped(
    data: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(result, "w", compression) as target,
    ):
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return result.getvalue()
