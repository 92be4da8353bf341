"""Checkpoints: ours, the published forms, and what is none."""

import contextlib
import pickle
import resource
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.errors import CheckpointError, UsageError
from lutra.supernets.checkpoints.checkpoint import (
    load_supernet,
    parse_checkpoint,
    read_checkpoint,
    save_supernet,
)
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.test_supernet import MBV3, PROXYLESS, RESNET, disturbed


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    """One of random numbers that tests only read."""
    supernet = Supernet(MBV3)
    disturbed(supernet)
    return supernet


def saved(path: Path, name: str = MBV3) -> Supernet:
    supernet = Supernet(name)
    disturbed(supernet)
    save_supernet(supernet, path, {"seed": 0})
    return supernet


def published(path: Path, supernet: Supernet, change: Any = lambda name: name) -> Path:
    state = OrderedDict((change(name), value) for name, value in supernet.state_dict().items())
    torch.save({"state_dict": state}, path)
    return path


def error_of(path: Path, space: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_supernet(path, space)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [MBV3, PROXYLESS, RESNET])
def test_weights_come_back(tmp_path: Path, name: str) -> None:
    supernet = saved(tmp_path / "s.pth", name)
    again = load_supernet(tmp_path / "s.pth")
    assert again.space.name == name
    assert not again.training
    numbers = again.state_dict()
    for key, tensor in supernet.state_dict().items():
        assert torch.equal(numbers[key], tensor), key


# How OFA's published files spell their names, and how the newer code does.
@pytest.mark.parametrize(
    "change",
    [
        lambda name: name,
        lambda name: name.replace("blocks.", "blocks.").replace(
            ".conv.inverted", ".mobile_inverted_conv.inverted"
        ),
        lambda name: name.replace(".bn.bn.", ".bn."),
        lambda name: name.replace(".conv.conv.weight", ".conv.weight"),
    ],
    ids=["new", "mobile_inverted_conv", "bn", "conv"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_published_forms(tmp_path: Path, supernet: Supernet, change: Any, legacy: bool) -> None:
    path = published(tmp_path / "s.pth", supernet, change)
    if legacy:
        state = torch.load(path, weights_only=True)
        torch.save(state, path, _use_new_zipfile_serialization=False)
    again = load_supernet(path, MBV3).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in supernet.state_dict().items())


def test_a_published_file_names_no_space(tmp_path: Path, supernet: Supernet) -> None:
    path = published(tmp_path / "s.pth", supernet)
    assert "does not name its space" in error_of(path)


def test_another_space_than_asked_for(tmp_path: Path) -> None:
    saved(tmp_path / "s.pth")
    assert f"is a supernet of {MBV3}, not of {PROXYLESS}" in error_of(tmp_path / "s.pth", PROXYLESS)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (MBV3.replace("0.25", "0.5"), "another width, class count"),
        (MBV3.replace("=10", "=11"), "classifier.linear.weight has the shape (10, 320)"),
        (MBV3.replace("/channels=1", ""), "first_conv.conv.weight"),
        (PROXYLESS, "lacks blocks.21.conv.inverted_bottleneck"),
        (RESNET, "lacks input_stem.0.bn.bn.weight"),
    ],
)
def test_a_checkpoint_of_another_network(
    tmp_path: Path, supernet: Supernet, space: str, says: str
) -> None:
    path = published(tmp_path / "s.pth", supernet)
    assert says in error_of(path, space)


def test_missing_names_are_named(tmp_path: Path) -> None:
    state = Supernet(MBV3).state_dict()
    for name in ("first_conv.conv.weight", "classifier.linear.bias"):
        del state[name]
    torch.save({"state_dict": state}, tmp_path / "s.pth")
    assert "lacks first_conv.conv.weight, classifier.linear.bias" in error_of(
        tmp_path / "s.pth", MBV3
    )


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "s.pth"
    assert "cannot read" in error_of(path)
    saved(path)
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert "is an empty file, not trained weights" in error_of(path)
    for content in (whole[:-100], whole[: len(whole) // 2], b"PK\x03\x04", b"\x80\x02."):
        path.write_bytes(content)
        assert "damaged" in error_of(path)
    path.write_bytes(pickle.dumps({"state_dict": print}, protocol=2))
    assert "holds code" in error_of(path)
    torch.save({"lutra_supernet": 9, "state_dict": {}}, path)
    assert "version 9" in error_of(path)
    torch.save({"state_dict": {**Supernet(MBV3).state_dict(), "first_conv.conv.weight": 1}}, path)
    assert "is not an array" in error_of(path, MBV3)
    state = Supernet(MBV3).state_dict()
    state["first_conv.conv.weight"][0] = float("nan")
    torch.save({"state_dict": state}, path)
    assert "not finite" in error_of(path, MBV3)


def test_what_a_file_says_is_not_printed_whole(tmp_path: Path) -> None:
    """Lists of lists of lists that are the same ones: text without end."""
    path, nested = tmp_path / "s.pth", ["deep"]
    for _ in range(60):
        nested = [nested, nested]  # type: ignore[list-item]
    for version in (nested, 10**6, 1.0, True):
        torch.save({"lutra_supernet": version, "state_dict": {}}, path)
        assert "is of another version" in error_of(path)
    torch.save(
        {"lutra_supernet": 1, "space": MBV3, "about": {"it": nested}, "state_dict": {}}, path
    )
    assert len(repr(read_checkpoint(path))) < 1000
    torch.save({"space": "x" * 100_000, "state_dict": {}}, path)
    assert len(error_of(path, MBV3)) < 1000
    state = {**Supernet(MBV3).state_dict(), "first_conv.conv.weight": torch.zeros([1] * 60)}
    torch.save({"state_dict": state}, path)
    assert "has the shape (1, 1, 1, 1, 1, 1, 1, 1, ...) where" in error_of(path, MBV3)


def test_no_memory_is_taken_for_what_a_file_does_not_hold(tmp_path: Path) -> None:
    """A name of a few letters stands for 15 GiB of weights; so do arrays of one repeated number."""
    path = tmp_path / "s.pth"
    large = "ofa-resnet50d-w8.0/classes=65536/r=8:8:1"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.save({"lutra_supernet": 1, "space": large, "state_dict": {}}, path)
    assert f"is no supernet of {large}: it lacks" in error_of(path)
    with torch.device("meta"):
        state = Supernet(large).state_dict()
    one = torch.zeros(1)
    repeated = {name: one.expand(tensor.shape) for name, tensor in state.items()
                if tensor.shape}  # fmt: skip
    torch.save({"lutra_supernet": 1, "space": large, "state_dict": repeated}, path)
    assert "weights of 1 numbers" in error_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_an_unknown_space_in_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"lutra_supernet": 1, "space": "nowhere", "state_dict": {}}, tmp_path / "s.pth")
    with pytest.raises(UsageError, match="unknown space 'nowhere'"):
        load_supernet(tmp_path / "s.pth")


def test_a_file_of_another_kind_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "s.pth").write_text("my notes")
    with pytest.raises(UsageError, match="is not written over it"):
        save_supernet(Supernet(MBV3), tmp_path / "s.pth", {})
    assert (tmp_path / "s.pth").read_text() == "my notes"


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_checkpoints_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.pth"
    if not path.exists():
        torch.save({"lutra_supernet": 1, "space": MBV3, "state_dict": {"a": torch.ones(3)}}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CheckpointError):
        parse_checkpoint(bytes(content), "it")
