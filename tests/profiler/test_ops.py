"""Profiling some ops of a space by their keys, from a list or of what a search found."""

import json
from pathlib import Path

import numpy as np
import pytest

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import UsageError
from lutra.predictors.filling.sample import Sample
from lutra.profiler.profile import plan, profile
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.conftest import SPACE

pytestmark = pytest.mark.usefixtures("hollow")

ALL = [op.key for op in get_space(SPACE).ops_at([224])]
DEVICE = FakeDevice(FakeScript())


def test_only_the_named_ops_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "t.lut"
    few = ALL[3:7]
    assert plan(DEVICE, SPACE, path, ops=few, networks=0).missing == 4
    profile(DEVICE, SPACE, path, ops=few, networks=0)
    with LatencyTable.open(path) as table:
        assert sorted(table.op_latencies()) == sorted(few)
    assert plan(DEVICE, SPACE, path, ops=ALL[5:9], networks=0).missing == 2


def test_filled_ops_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.lut"
    profile(DEVICE, SPACE, path, sample=Sample(share=0.25), networks=5)
    with LatencyTable.open(path) as table:
        filled = sorted(table.filled())
    profile(DEVICE, SPACE, path, ops=filled[:3], networks=5)
    with LatencyTable.open(path) as table:
        assert not set(filled[:3]) & set(table.filled())
        assert len(table.filled()) == len(filled) - 3


def test_what_is_no_op_of_the_space(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 of the 2 named ops are none of the space's"):
        profile(DEVICE, SPACE, tmp_path / "t.lut", ops=[ALL[0], "pool/1x1x1-1x1x1"])
    with pytest.raises(UsageError, match="a sample chooses its ops itself"):
        profile(DEVICE, SPACE, tmp_path / "t.lut", ops=ALL[:1], sample=Sample(share=0.5))
    assert not (tmp_path / "t.lut").exists()


def test_a_file_names_them(tmp_path: Path, capsys: Capture) -> None:
    space = get_space(SPACE)
    (row,) = space.sample(1, np.random.default_rng(0), [224])
    architecture = space.decode(row)
    networks, listed = tmp_path / "a.json", tmp_path / "ops.txt"
    networks.write_text(json.dumps(architecture.to_json()))
    own = {op.key for op in space.ops_of(architecture)}
    listed.write_text("\n".join(sorted(own)) + "\n\n")
    for file in (networks, listed):
        told = ("--networks", 0, "--dry-run", "-o", tmp_path / "t.lut")
        found = call_json(capsys, "profile", "cpu", "--space", SPACE, "--ops", file, *told)
        assert f"'missing': {len(own)}" in str(found)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "is an empty file"),
        ("\n", "names no op"),
        ("{", "JSON"),
        ("nonsense\n", "none of the space's"),
    ],
)
def test_files_that_name_none(content: str, part: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "ops.txt"
    file.write_text(content)
    status = call("profile", "cpu", "--ops", str(file), "-o", str(tmp_path / "t.lut"))
    assert status in (1, 2)
    assert_one_line(capsys, part)
    assert not (tmp_path / "t.lut").exists()
