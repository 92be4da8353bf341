"""Files: written whole or not at all, read within bounds; every problem is the caller's error."""

from pathlib import Path

import pytest

from lutra.errors import AccuracyError, ResultError
from lutra.files import (
    MAX_JSON_BYTES,
    parse_json,
    read_bounded,
    read_json,
    replacing,
    write_atomically,
)


def test_a_written_file_is_whole_readable_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path, ResultError) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["program"]


def test_the_name_of_an_unfinished_file_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "program"
    with replacing(path, ResultError, permissions=0o755) as file:
        file.write(b"whole")
        file.flush()
        assert Path(file.name).read_bytes() == b"whole"
        assert not path.exists()
    assert path.stat().st_mode & 0o777 == 0o755


def test_what_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"cannot write .*nowhere/x: No such file"):
        write_atomically(tmp_path / "nowhere" / "x", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(AccuracyError, match="cannot write"):
        write_atomically(tmp_path / "folder", b"", AccuracyError)


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5, "is too large", ResultError) == b"12345"
    with pytest.raises(ResultError, match="data is too large"):
        read_bounded(path, 4, "is too large", ResultError)
    with pytest.raises(AccuracyError, match="cannot read .*: Is a directory"):
        read_bounded(tmp_path, 4, "is too large", AccuracyError)


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":[', "]}")])
def test_what_is_nested_deeply_is_no_json_of_ours(begin: str, end: str) -> None:
    assert parse_json(begin * 20 + end * 20) is not None
    for levels in (100, 900, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(begin * levels + end * levels)


def test_json_of_every_broken_kind_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": [1, 2]}')
    assert read_json(path) == {"a": [1, 2]}
    for content in (b"", b"{", b"\xff\xfe", b"[" * 200_000, b"[" * 51 + b"]" * 51):
        path.write_bytes(content)
        with pytest.raises(ResultError, match="is not valid JSON"):
            read_json(path)
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ResultError, match="too large for a JSON file"):
        read_json(path)
