"""One process at a time makes or writes a table, and readers are told what a kill left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from lutra.errors import TableWriteError
from lutra.profiler.bench import open_or_create
from lutra.tables import LatencyTable
from lutra.tables.connection import TableWarning
from lutra.tables.schema import VERSION
from tests.tables.test_table import KEY, TARGET, old_table, record

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from lutra.profiler.bench import open_or_create
from tests.tables.test_table import TARGET, record
with open_or_create(Path(sys.argv[1]), TARGET) as table:
    record(table)
    print("written", flush=True)
    sys.stdin.read()
"""
CREATOR = """
import sys
from pathlib import Path
from lutra.errors import TableWriteError
from lutra.tables import LatencyTable
from tests.tables.test_table import TARGET, record
print("ready", flush=True)
sys.stdin.readline()
try:
    with LatencyTable.create(Path(sys.argv[1]), TARGET) as table:
        record(table)
        print("made", flush=True)
        sys.stdin.readline()
except TableWriteError as error:
    print(error, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my table.lut"


def started(code: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has written a visit and holds the table; it is killed at the end."""
    with started(WRITER, path) as process:
        assert line_of(process) == "written"
        yield process
        process.send_signal(signal.SIGKILL)


def test_a_second_writer_is_refused_and_a_kill_frees_the_table(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.lut"
    link.symlink_to(path)
    with writer(path) as process:
        for name in (path, link):
            with pytest.raises(TableWriteError, match=rf"is in use by `.*` \(pid {process.pid}\)"):
                LatencyTable.open(name, write=True)
            with pytest.raises(TableWriteError, match="is in use by"):
                open_or_create(name, TARGET)
        with LatencyTable.open(path) as reader:
            assert len(reader.visits("op", KEY)) == 1
    with LatencyTable.open(path, write=True) as table:
        record(table)
        assert len(table.visits("op", KEY)) == 2


def test_a_second_writer_is_refused_by_another_name_of_the_file(path: Path, tmp_path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
        (tmp_path / "new.lut").hardlink_to(path)
        with pytest.raises(TableWriteError, match="new.lut is in use by this very run"):
            LatencyTable.open(tmp_path / "new.lut", write=True)
    (tmp_path / "hard.lut").hardlink_to(path)
    with writer(path) as process:
        with pytest.raises(TableWriteError, match=rf"hard.lut is in use by .*{process.pid}"):
            LatencyTable.open(tmp_path / "hard.lut", write=True)
    with LatencyTable.open(path, write=True) as table:
        record(table)
    with LatencyTable.open(tmp_path / "hard.lut", write=True) as table:
        assert len(table.visits("op", KEY)) == 3


def test_the_same_process_is_refused_too(path: Path) -> None:
    with LatencyTable.create(path, TARGET) as table:
        record(table)
        with pytest.raises(TableWriteError, match="in use by this very run"):
            LatencyTable.open(path, write=True)
        record(table)
    with LatencyTable.open(path, write=True) as table:
        assert len(table.visits("op", KEY)) == 2


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.lut")
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    with LatencyTable.open(path, write=True) as table:
        assert len(table.visits("op", KEY)) == 1
    assert list(tmp_path.iterdir()) == [path]


def six_at_once(script: str, path: Path) -> list[subprocess.Popen[str]]:
    """Processes that were told to go when all of them were ready."""
    processes = [started(script, path) for _ in range(6)]
    for process in processes:
        assert line_of(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def test_of_many_that_create_one_table_one_does_and_its_file_stays(path: Path) -> None:
    processes = six_at_once(CREATOR, path)
    said = [line_of(process) for process in processes]
    assert said.count("made") == 1
    assert all("is in use by `" in text for text in said if text != "made")
    for process in processes:
        process.communicate("end\n")
    with LatencyTable.open(path) as table:
        assert len(table.visits("op", KEY)) == 1
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_table_that_came_up_meanwhile_is_not_written_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a container that shares the folder, but not the locks."""
    with LatencyTable.create(path, TARGET) as table:
        record(table)
    monkeypatch.setattr("lutra.tables.table.is_there", lambda _: False)
    with pytest.raises(TableWriteError, match="File exists"):
        LatencyTable.create(path, TARGET)
    monkeypatch.undo()
    with LatencyTable.open(path) as table:
        assert len(table.visits("op", KEY)) == 1


def killed(path: Path) -> None:
    """A table whose writer was killed: its visit is in the log alone."""
    with writer(path):
        pass
    assert Path(f"{path}-wal").stat().st_size


def test_a_copy_without_its_log_is_said_to_lack_visits(path: Path, tmp_path: Path) -> None:
    killed(path)
    copy = tmp_path / "copy.lut"
    shutil.copy(path, copy)
    for _ in range(2):  # every time: reading does not hide it
        with pytest.warns(TableWarning, match="copy.lut-wal is not beside it.*lacks"):
            with LatencyTable.open(copy) as table:
                assert table.visits("op", KEY) == []
    assert sorted(item.name for item in tmp_path.glob("copy*")) == ["copy.lut"]
    with pytest.warns(TableWarning), LatencyTable.open(copy, write=True) as table:
        record(table)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a Linux tmpfs")
def test_a_killed_table_on_a_read_only_disk_says_what_to_do(path: Path, tmp_path: Path) -> None:
    killed(path)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        for name in (path.name, f"{path.name}-wal"):
            shutil.copy(path.with_name(name), disk / name)
        shutil.copy(path, disk / "alone.lut")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for write in (False, True):
            with pytest.raises(TableWriteError) as raised:
                LatencyTable.open(disk / path.name, write=write)
            assert f"{path.name}-wal holds a part of it" in str(raised.value)
            assert "copy both" in str(raised.value)
            assert "for writing" not in str(raised.value)
        with pytest.warns(TableWarning), LatencyTable.open(disk / "alone.lut") as table:
            assert table.target == TARGET
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


HALF_MIGRATION = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE t (x)")
connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 1000)
connection.execute("PRAGMA user_version = 2")
os.kill(os.getpid(), signal.SIGKILL)
"""


def half_migrated(path: Path) -> None:
    """A table whose migration was killed when a part of it was on the disk."""
    old_table(path)
    command = [sys.executable, "-c", HALF_MIGRATION, str(path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert Path(f"{path}-journal").stat().st_size


@pytest.mark.parametrize("write", [False, True])
def test_a_killed_migration_is_undone_and_done_again(path: Path, write: bool) -> None:
    half_migrated(path)
    with LatencyTable.open(path, write=write) as table:
        assert [row.key for row in table.rows()] == ["a"]
    assert [item.name for item in path.parent.iterdir()] == [path.name]


MIGRATOR = """
import sys
from pathlib import Path
from lutra.tables.connection import open_file
print("ready", flush=True)
sys.stdin.readline()
print(*open_file(Path(sys.argv[1]), write=True).execute("PRAGMA user_version").fetchone())
"""


def test_many_may_bring_a_table_up_to_date_at_once(path: Path) -> None:
    """As from containers that share the folder, but not the locks."""
    old_table(path)
    processes = six_at_once(MIGRATOR, path)
    assert [process.communicate()[0] for process in processes] == [f"{VERSION}\n"] * 6


def test_a_table_is_read_whole_through_a_link(tmp_path: Path) -> None:
    """While another connection writes it, its latest visits are in a log beside the file."""
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "t.lut", tmp_path / "link.lut"
    link.symlink_to(path)
    with LatencyTable.create(path, TARGET) as table:
        table.put_meta("known", 1)
        with LatencyTable.open(link) as linked:
            assert linked.meta("known") == 1
