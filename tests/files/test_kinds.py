"""What a file is, told by real ones; and that nothing is written over something else."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
import torch

from lutra.emitters.emission import FORMATS, Emission
from lutra.errors import UsageError
from lutra.files.kinds import MODELS, RESULT, SUPERNET, TABLE, FileKind, is_there, require_kind
from lutra.ops import Conv, Shape, seeded_weights
from lutra.search.find import find_networks

KINDS = {"table": TABLE, "result": RESULT, **MODELS}


@pytest.fixture
def files(table_path: Path, tmp_path: Path) -> dict[str, Path]:
    """A file of each kind, as lutra writes it."""
    result = tmp_path / "result.json"
    find_networks(table_path, max_latency_ms=20.0, algorithm="random").write(result)
    graph = Conv(Shape(8, 8, 4), 4).graph
    models = {name: tmp_path / f"model.{name}" for name in FORMATS}
    for name, path in models.items():
        path.write_bytes(Emission(name).emit(graph, seeded_weights(graph, 0), {"a": "b"}))
    return {"table": table_path, "result": result, **models}


def test_each_file_is_of_its_kind_alone(files: dict[str, Path]) -> None:
    assert set(files) == set(KINDS)
    for name, path in files.items():
        data = path.read_bytes()
        assert [other for other, kind in KINDS.items() if kind.is_one(data)] == [name]


def test_files_of_other_programs_are_known_too(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "other"
    onnx.save(onnx.load(files["onnx"]), path)
    require_kind(path, MODELS["onnx"])
    torch.save({"a": torch.zeros(2)}, path)
    require_kind(path, SUPERNET)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nothing_is_written_over_another_kind(
    kind: FileKind, files: dict[str, Path], tmp_path: Path
) -> None:
    for name, path in files.items():
        if KINDS[name] is kind:
            require_kind(path, kind)
            continue
        with pytest.raises(UsageError, match=f"is {KINDS[name].name}: {kind.name} is not written"):
            require_kind(path, kind)
    mine = tmp_path / "notes.txt"
    about = b'{"seconds": 9.0, "search": {"format": "lutra-search-result"}}'
    tensorflow = b"\x08\x01\x12\x04\x0a\x02\x08\x01"
    for content in (
        b"my notes",
        b"{}",
        b"\x08",
        b"PK\x03\x04a wheel",
        bytes(99),
        about,
        tensorflow,
    ):
        mine.write_bytes(content)
        with pytest.raises(UsageError, match="is a file of another kind"):
            require_kind(mine, kind)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nothing_is_lost_with_no_file_or_an_empty_one(kind: FileKind, tmp_path: Path) -> None:
    require_kind(tmp_path / "none", kind)
    (tmp_path / "empty").touch()
    require_kind(tmp_path / "empty", kind)


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path):
        with pytest.raises(UsageError, match="is no regular file"):
            require_kind(path, RESULT)


def test_what_the_system_will_not_say_of_a_name_is_not_there(tmp_path: Path) -> None:
    assert is_there(tmp_path)
    for name in ("nothing", "x" * 5000, "nul\0", "nothing/x"):
        assert not is_there(tmp_path / name)
        require_kind(tmp_path / name, RESULT)
