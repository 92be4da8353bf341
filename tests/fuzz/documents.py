"""Targets: search results, architectures and the files of accuracy predictors."""

from __future__ import annotations

import io
import json
import math
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from lutra.cli.verify import print_verified
from lutra.errors import AccuracyError
from lutra.predictors.accuracy import load_accuracy
from lutra.search.candidate import Candidate, MeasuredMemory, Verified
from lutra.search.result import SearchResult, read_found
from lutra.spaces import get_space, parse_architecture
from tests.fuzz.grammar import ESCAPES, HOSTILE, damaged, edited_json, json_bytes
from tests.fuzz.oracle import require, said
from tests.fuzz.small_space import TARGET
from tests.fuzz.target import Target

MBV3, RESNET = "ofa-mbv3-w1.0", "ofa-resnet50d"
_JSON, _TORCH = "input.json", "input.pth"


@cache
def _architectures() -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    found = []
    for name in (MBV3, RESNET):
        space = get_space(name)
        found += [space.decode(row).to_json() for row in space.sample(2, random, [224])]
    return found


# results


def _read_result(data: bytes) -> None:
    Path(_JSON).write_bytes(data)
    result = SearchResult.read(_JSON)
    for candidate in result.candidates:
        _require_candidate(candidate)
    for value in (*result.limits.values(), *result.reference_ms.values()):
        _require_positive(value, "a limit or a reference")
    for value in result.anchors_ms.values():
        _require_positive(value, "an anchor")
    again = SearchResult.from_json(json.loads(json.dumps(result.to_json())), "what was written")
    require(again == result, f"{again} is not {result}")
    said(lambda: print_verified(result, len(result.candidates)))


def _require_candidate(candidate: Candidate) -> None:
    _require_positive(candidate.predicted_ms, "predicted_ms")
    _require_positive(candidate.macs, "macs")
    _require_positive(candidate.params, "params")
    require(0 <= candidate.accuracy <= 100, f"an accuracy of {candidate.accuracy} %")
    for value in (candidate.predicted_low_ms, candidate.predicted_high_ms):
        if value is not None:
            _require_positive(value, "an end of an interval")
    found = candidate.verified
    if found is not None:
        for value in (found.measured_ms, found.raw_ms, found.ci_low_ms, found.ci_high_ms):
            _require_positive(value, "a measured latency")


def _require_positive(value: float, what: str) -> None:
    require(math.isfinite(value) and value > 0, f"{what} is {value!r}")


@cache
def _results() -> list[dict[str, Any]]:
    found = []
    for document in (_architectures()[0], _architectures()[2]):
        space = document["space"]
        architecture = parse_architecture(document)
        plain = Candidate(architecture, 2.5, 2.4, 2.6, 75.1, 230_000_000, 5_000_000)
        verified = Verified(2.51, 2.6, 2.5, 2.52, 2.53, True, -0.4, ("drift",))
        candidates = (
            Candidate(
                *(architecture, 2.5, None, None, 75.1, 230_000_000, 5_000_000, verified),
                memory=MeasuredMemory(60_000_000, None, 20_000_000),
            ),
            plain,
        )
        result = SearchResult(
            space=space,
            target=TARGET,
            table="cpu.lut",
            limits={"latency_ms": 2.6, "macs": 3e8},
            algorithm="evolution",
            seed=0,
            hyperparameters={"keep": 10, "resolutions": [224]},
            evaluations=1000,
            cpu_seconds=1.5,
            accuracy_source={"name": "one", "provenance": "of tests", "quality": {"tau": 0.9}},
            candidates=candidates,
            reference_ms={"small": 0.2},
            anchors_ms={architecture.key: 2.5},
            notes=("a note",),
        )
        found.append(result.to_json())
    return found


# architectures


def _read_architecture(data: bytes) -> None:
    Path(_JSON).write_bytes(data)
    architecture, _ = read_found(_JSON)
    space = get_space(architecture.space)
    row = space.encode(architecture)
    again = parse_architecture(json.loads(architecture.key))
    require(again == architecture, f"{again} is not {architecture}")
    require(np.array_equal(space.encode(space.decode(row)), row), f"{architecture} is not its row")
    for op in space.ops_of(architecture):
        require(op.macs >= 0, f"{op.key} has {op.macs} MACs")
    document = json.loads(data)
    if "format" not in document:
        _require_as_given(document, architecture.to_json())


def _require_as_given(document: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    """What was read is what stands in the document, number by number."""
    for name in ("ks", "e", "d", "w"):
        given = document.get(name) or []
        require(
            list(given) == read.get(name, []), f"{name}: {given!r} was read as {read.get(name)}"
        )
        require(not any(isinstance(value, bool) for value in given), f"{name} holds {given!r}")
    for name in ("r", "image_size"):
        if name in document:
            value = document[name]
            value = value[0] if isinstance(value, list) else value
            require(
                value == read["r"] and not isinstance(value, bool),
                f"{name}: {value!r} was read as {read['r']}",
            )


def _architecture_documents() -> list[dict[str, Any]]:
    found = _architectures()
    lists = {**found[0], "r": [224]}
    sizes = {**{name: found[0][name] for name in ("space", "ks", "e", "d")}, "image_size": 224}
    return [*found, lists, sizes, _results()[0]]


# files of accuracy predictors


def _read_accuracy(data: bytes) -> None:
    Path(_TORCH).write_bytes(data)
    for name in (MBV3, RESNET):
        try:
            predictor = load_accuracy(_TORCH, name)
        except AccuracyError:
            continue
        space = get_space(name)
        known = [r for r in predictor.resolutions if r in space.resolutions]
        rows = space.sample(8, np.random.default_rng(0), known)
        accuracies = predictor.predict(rows)
        sound = np.isfinite(accuracies) & (accuracies >= 0) & (accuracies <= 100)
        require(bool(sound.all()), f"accuracies of {accuracies} %")


@cache
def _additive() -> dict[str, Any]:
    file = resources.files("lutra.predictors.accuracy") / f"{MBV3}.json"
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


@cache
def _torch_files() -> list[bytes]:
    """A small predictor in each of OFA's forms, and in torch's old file format."""
    import torch

    features, hidden = {"tutorial": 128, "library": 124}, 4
    found = []
    for form, stems, last in (
        ("tutorial", ("0", "2", "4", "6"), "6"),
        ("library", ("layers.0.0", "layers.1.0", "layers.2.0", "layers.3"), "layers.3"),
    ):
        state = {}
        for stem in stems:
            inputs = features[form] if stem == stems[0] else hidden
            outputs = 1 if stem == last else hidden
            state[f"{stem}.weight"] = torch.full((outputs, inputs), 0.01)
            if form == "tutorial" or stem != last:
                state[f"{stem}.bias"] = torch.full((outputs,), 0.01)
        if form == "library":
            state["base_acc"] = torch.tensor([0.7])
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(state, file, _use_new_zipfile_serialization=zipped)
            found.append(file.getvalue())
    return found


@st.composite
def edited_archives(draw: DrawFn, files: Sequence[bytes]) -> bytes:
    """One of torch's archives with members that are renamed, exchanged, repeated or hostile."""
    data = draw(st.sampled_from(files))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(item.filename, archive.read(item)) for item in archive.infolist()]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(members) - 1))
        name, content = members[place]
        match draw(st.integers(0, 5)):
            case 0:
                members[place] = (draw(st.sampled_from(_other_names(name))), content)
            case 1:
                members[place] = (name, draw(_pickles()))
            case 2:
                members[place] = (name, draw(damaged([content])))
            case 3:
                members.append((draw(st.sampled_from(_other_names(name))), draw(_pickles())))
            case 4:
                members[place] = (name, content * draw(st.integers(0, 3)))
            case _:
                members[place] = (name, draw(damaged([_pickle_of(members)])))
    file = io.BytesIO()
    compression = draw(st.sampled_from((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,)))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in members:
            info = zipfile.ZipInfo(name or "x")
            info.compress_type = compression
            archive.writestr(info, content)
    return file.getvalue()


def _pickle_of(members: list[tuple[str, bytes]]) -> bytes:
    return next((content for name, content in members if name.endswith(".pkl")), b".")


def _other_names(name: str) -> tuple[str, ...]:
    folder = name.partition("/")[0]
    return (
        name.swapcase(),
        f"{folder}/data.PKL",
        f"{folder}/data.pkl",
        f"{folder}/data/0",
        "data.pkl",
        f"x/{name}",
        f"{name} ",
        f"{folder}/version",
        f"{folder}/byteorder",
        f"../{name}",
        ESCAPES,
    )


def _pickles() -> SearchStrategy[bytes]:
    """Streams of pickle's opcodes that torch would read, some of them deep or large."""
    pieces = st.lists(st.sampled_from(_PICKLE_PIECES), max_size=12).map(b"".join)
    return st.builds(lambda body: b"\x80\x02" + body + b".", pieces)


_PICKLE_PIECES = (
    b"}", b"]", b")", b"(", b"t", b"N", b"K\x01", b"K\xff", b"J\xff\xff\xff\x7f", b"\x85", b"\x86",
    b"\x87", b"s", b"u", b"e", b"a", b"q\x00", b"h\x00", b"R", b"Q", b"b", b"0", b"2",
    b"X\x01\x00\x00\x00a", b"X\xff\xff\xff\x7fa", b"X\x08\x00\x00\x000.weight",
    b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_parameter\n", b"cos\nsystem\n", b"cbuiltins\neval\n",
    b"X\x06\x00\x00\x00echo x", b"\x85" * 3000, b"(" * 20_000, b"]" * 5000,
    b"G\x7f\xf0\x00\x00" * 2,
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"ctorch\nSize\n",
    b"ctorch.storage\nUntypedStorage\n",
)  # fmt: skip


def _accuracy_seeds() -> list[bytes]:
    return [*_torch_files(), json_bytes(_additive())]


def _accuracy_grammar() -> SearchStrategy[bytes]:
    return st.one_of(
        edited_archives(_torch_files()[::2]),
        edited_archives(_torch_files()[::2]),
        damaged(_torch_files()),
        edited_json([_additive()], 3),
    )


TARGETS = (
    Target(
        "results",
        _read_result,
        lambda: edited_json(_results()),
        lambda: [json_bytes(document) for document in _results()],
        leaves=frozenset({_JSON}),
    ),
    Target(
        "architectures",
        _read_architecture,
        lambda: st.one_of(
            edited_json(_architecture_documents()),
            st.sampled_from(HOSTILE).map(json_bytes),
        ),
        lambda: [json_bytes(document) for document in _architecture_documents()],
        leaves=frozenset({_JSON}),
        suite_inputs=100,
    ),
    Target(
        "accuracy",
        _read_accuracy,
        _accuracy_grammar,
        _accuracy_seeds,
        leaves=frozenset({_TORCH}),
    ),
)
