"""Files: written whole or not at all, read within bounds; every problem is the caller's error."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lutra.errors import AccuracyError, ResultError, UsageError
from lutra.files import (
    MAX_JSON_BYTES,
    check_output,
    parse_json,
    read_bounded,
    read_json,
    replacing,
    write_atomically,
)
from lutra.files.kinds import RESULT


@pytest.fixture(params=["files without a name", "temporary names"], autouse=True)
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of the file systems."""
    if request.param == "temporary names":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


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


def test_a_file_that_must_be_new_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_atomically(path, b"first", new=True)
    with pytest.raises(ResultError, match="cannot write .*table: File exists"):
        write_atomically(path, b"second", new=True)
    assert path.read_bytes() == b"first"
    assert [item.name for item in tmp_path.iterdir()] == ["table"]


def test_a_link_stays_one_and_the_file_s_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "real" / "result.json", tmp_path / "link.json"
    target.parent.mkdir()
    link.symlink_to(target)
    write_atomically(link, b"first")
    target.chmod(0o600)
    write_atomically(link, b"second")
    assert link.readlink() == target
    assert target.read_bytes() == b"second"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in target.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664), (0o022, 0o644)])
def test_the_umask_takes_from_a_new_file_and_not_from_an_old_one(
    tmp_path: Path, umask: int, mode: int
) -> None:
    old = tmp_path / "old"
    old.touch()
    old.chmod(0o666)
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "new", b"")
        write_atomically(old, b"")
        with replacing(tmp_path / "program", ResultError, permissions=0o755) as program:
            program.write(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == mode
    assert old.stat().st_mode & 0o777 == 0o666
    assert (tmp_path / "program").stat().st_mode & 0o777 == 0o755 & ~umask


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_a_read_only_file_is_kept(tmp_path: Path, mode: int) -> None:
    """Root's too, whom the system would let."""
    path = tmp_path / "result.json"
    path.touch()
    path.chmod(mode)
    with pytest.raises(ResultError, match=r"cannot write .*result.json: it is read-only; make it"):
        write_atomically(path, b"new")
    with pytest.raises(ResultError, match=r"cannot write .*result.json: it is read-only; make it"):
        check_output(path, RESULT)
    assert path.read_bytes() == b""
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("letters", [250, 255])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, letters: int) -> None:
    path = tmp_path / ("x" * letters)
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_too_long_is_known_before(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 256)
    with pytest.raises(ResultError, match="cannot write .*: File name too long"):
        check_output(path, RESULT)
    with pytest.raises(ResultError, match="cannot write .*: File name too long"):
        write_atomically(path, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    if not hasattr(os, "O_TMPFILE"):
        pytest.skip("a kill leaves a temporary name")
    code = (
        "import os, signal, sys; from pathlib import Path; from lutra.errors import ResultError;"
        "from lutra.files import replacing; context = replacing(Path(sys.argv[1]), ResultError);"
        "file = context.__enter__(); file.write(b'half'); file.flush();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    check_output(tmp_path / "result.json", RESULT)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResultError, match=r"cannot write .*nowhere/x: No such file"):
        check_output(tmp_path / "nowhere" / "x", RESULT)
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UsageError, match="notes is a file of another kind"):
        check_output(tmp_path / "notes", RESULT)


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
        with pytest.raises(ResultError, match="is not valid JSON" if content else "is an empty"):
            read_json(path)
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ResultError, match="too large for a JSON file"):
        read_json(path)
