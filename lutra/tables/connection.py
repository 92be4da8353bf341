"""Making, locking and opening a table's SQLite file, and SQLite's errors in our words."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
import stat
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lutra.errors import NotATableError, TableVersionError, TableWriteError
from lutra.files import write_atomically
from lutra.files.kinds import TABLE, is_there
from lutra.files.locks import Lock, take
from lutra.tables.columns import insert
from lutra.tables.schema import APPLICATION_ID, MIGRATIONS, VERSION, migrate
from lutra.tables.transaction import snapshot
from lutra.tables.values import check_values

_BUSY_SECONDS = 5.0
_VERSION_AT, _WITH_LOG = 19, b"\x02"  # https://sqlite.org/fileformat.html: the read version


class TableWarning(UserWarning):
    """A table can be used, but may hold less than was measured."""


def write_lock(path: Path) -> Lock:
    """The right to write a table, one process's at a time; freed however that process ends.

    Whether the file exists or not: by its folder and name (and `add_file_lock`). Raises
    `TableWriteError`, which names the process that has it.
    """
    real = Path(os.path.realpath(path))
    try:
        folder = real.parent.stat()
    except OSError as error:
        raise TableWriteError(
            f"cannot open {path} for writing: there is no folder {path.parent}"
        ) from error
    _require_short_name(path)
    return _taken(path, f"table {folder.st_dev}:{folder.st_ino}/{real.name}")


def _require_short_name(path: Path) -> None:
    try:
        _journal(path).lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise TableWriteError(
                f"cannot write {path}: its name is too long; SQLite keeps a file beside it whose"
                " name is 8 characters longer"
            ) from error


def add_file_lock(path: Path, lock: Lock) -> None:
    """Have a lock hold for every name of the file, as hard links are; raises as `write_lock` does.

    It must exist.
    """
    file = stat_of(path)
    lock.enter_context(_taken(path, f"table file {file.st_dev}:{file.st_ino}"))


def _taken(path: Path, resource: str) -> Lock:
    taken = take(resource)
    if isinstance(taken, str):
        raise TableWriteError(
            f"{path} is in use by {taken}: one run at a time writes a table; wait for it to end, or"
            " name another file"
        )
    return taken


def stat_of(path: Path) -> os.stat_result:
    """What the system says of a table's file; raises `NotATableError` where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of a name with a NUL
        found = None
    except OSError as error:
        raise NotATableError(f"cannot read {path}: {error.strerror}") from error
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise NotATableError(f"{path} is no regular file, and no latency table")
    if found is None:
        raise NotATableError(f"there is no table {path}; `lutra profile ... -o {path}` makes one")
    return found


def create_file(path: Path, target: Mapping[str, Any]) -> None:
    """A new file that is an empty table of a target: it is there whole, or not at all.

    Raises `TableWriteError`, also where there is one.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        insert(connection, "meta", {"name": "target", "value": json.dumps(target)})
        data = connection.serialize()
    write_atomically(path, data, TableWriteError, new=True)


def open_file(path: Path, *, write: bool) -> sqlite3.Connection:
    """A table's file of the newest schema, to which an older one is brought to be written.

    To be read, a copy of it is: the file stays as it is, but for what a kill left half done, which
    is undone. Raises as `LatencyTable.open` does, and warns (`TableWarning`) where the file was
    copied without its latest visits.
    """
    lone = _lacks_its_log(path)
    if lone:
        warnings.warn(
            f"{path} was not closed in order, and {path.name}-wal is not beside it: if it was"
            " copied without that file, it lacks what was measured last; copy both",
            TableWarning,
            stacklevel=3,
        )
    if is_there(_journal(path)):
        with contextlib.closing(connect(path, "rw")) as healing, mapped(path):
            healing.execute("PRAGMA user_version")
    # A reader that SQLite lets make the log would hide from the next one that it was missing.
    connection = connect(path, "rw" if write else "ro", unchanging=lone and not write)
    with contextlib.ExitStack() as opened, mapped(path):
        opened.callback(connection.close)
        newest = check_schema(path, connection)
        if not newest and not write:
            return _migrated_copy(path, connection)
        if not newest:
            migrate(connection)
            check_schema(path, connection)
        opened.pop_all()
        return connection


def _migrated_copy(path: Path, older: sqlite3.Connection) -> sqlite3.Connection:
    """What an older table holds, by the newest schema, in a file of SQLite's own without a name."""
    with contextlib.ExitStack() as opened:
        copy = sqlite3.connect("", isolation_level=None)
        opened.callback(copy.close)
        older.backup(copy)
        migrate(copy)
        check_schema(path, copy)
        copy.execute("PRAGMA query_only = ON")  # what is written here would be lost
        opened.pop_all()
    return copy


def _lacks_its_log(path: Path) -> bool:
    """Whether the file says that changes are in a write-ahead log, and there is none."""
    if is_there(_log(path)):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_VERSION_AT + 1)
    except OSError:  # SQLite will say
        return False
    return TABLE.is_one(head) and head[_VERSION_AT:] == _WITH_LOG


def _log(path: Path) -> Path:
    real = Path(os.path.realpath(path))  # SQLite keeps it beside the file, not beside a link
    return real.with_name(f"{real.name}-wal")


def _journal(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}-journal")


def connect(path: Path, mode: str, *, unchanging: bool = False) -> sqlite3.Connection:
    """Open the file in SQLite's mode ``ro`` or ``rw``; transactions are ours to begin."""
    with mapped(path):
        return sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}&immutable={unchanging:d}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
        )


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file's name."""
    try:
        yield
    except (UnicodeDecodeError, MemoryError) as error:  # of a damaged schema, quoted or sized
        raise NotATableError(f"{path} is no latency table, or it is damaged") from error
    except sqlite3.Error as error:
        code = (error.sqlite_errorcode & 0xFF) if hasattr(error, "sqlite_errorcode") else 0
        match code:
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                raise NotATableError(f"{path} is no latency table, or it is damaged") from error
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                raise TableWriteError(
                    f"cannot write {path}: disk full or failing ({error});"
                    " what was recorded before is safe"
                ) from error
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                raise TableWriteError(_why_not_opened(path)) from error
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise TableWriteError(f"{path} is in use by another run of lutra") from error
        raise NotATableError(f"{path} cannot be used as a latency table: {error}") from error


def _why_not_opened(path: Path) -> str:
    for left in (_log(path), _journal(path)):
        if is_there(left):
            return (
                f"{path} was not closed in order, so {left.name} holds a part of it; reading the"
                " two needs a folder that can be written to: copy both to one"
            )
    if path.is_dir():
        reason = "it is a folder"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    else:
        reason = "it is read-only" if is_there(path) else "the folder is not writable"
    return f"cannot open {path} for writing: {reason}"


def check_schema(path: Path, connection: sqlite3.Connection) -> bool:
    """Make sure that this is a whole table of a schema we know; whether it is the newest one.

    Raises `NotATableError` and `TableVersionError`.
    """
    with snapshot(connection):  # another process may bring it up to date meanwhile
        version = _checked_version(path, connection)
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise NotATableError(f"{path} is damaged: {problem}")
    if version < VERSION:
        return False
    check_values(path, connection)
    return True


def _checked_version(path: Path, connection: sqlite3.Connection) -> int:
    """The number of the schema that the file says it has, and has."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if path.stat().st_size == 0:
        raise NotATableError(f"{path} is an empty file, no latency table; delete it")
    if application != APPLICATION_ID:
        raise NotATableError(f"{path} is an SQLite file, but no latency table of lutra")
    if version > VERSION:
        raise TableVersionError(
            f"{path} has schema {version}, this lutra reads up to {VERSION}; upgrade lutra"
        )
    if version < 1:
        raise NotATableError(f"{path} is damaged: it says that its schema is number {version}")
    # Before any row is looked at, where expressions of a foreign schema would be computed.
    if schema_of(connection) != expected_schema(version):
        raise NotATableError(f"{path} is damaged: its schema is not the one that lutra writes")
    return version


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    """Type, name and SQL of all that the file defines, so that a foreign trigger would show."""
    query = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    return connection.execute(query).fetchall()


@cache
def expected_schema(version: int = VERSION) -> list[tuple[str, str, str | None]]:
    """The `schema_of` a table of a version."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript("".join(MIGRATIONS[:version]))
        return schema_of(connection)
