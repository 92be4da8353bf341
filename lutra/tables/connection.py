"""Opening a table's SQLite file, and SQLite's errors in our words."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

from lutra.errors import NotATableError, TableVersionError, TableWriteError
from lutra.tables.schema import APPLICATION_ID, VERSION, migrate
from lutra.tables.values import check_values

_BUSY_SECONDS = 5.0


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file in SQLite's mode ``ro``, ``rw`` or ``rwc``; transactions are ours to begin."""
    with mapped(path):
        return sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
        )


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file's name."""
    try:
        yield
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
                reason = _why_not_writable(path)
                raise TableWriteError(f"cannot open {path} for writing: {reason}") from error
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise TableWriteError(f"{path} is in use by another run of lutra") from error
        raise NotATableError(f"{path} cannot be used as a latency table: {error}") from error


def _why_not_writable(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return "it is read-only" if path.exists() else "the folder is not writable"


def check_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Make sure that this is a whole table of a schema we know; migrate an older one.

    Raises `NotATableError`, `TableVersionError` and, for an older schema in a read-only file,
    `TableWriteError`.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise NotATableError(f"{path} is an SQLite file, but no latency table of lutra")
    if version > VERSION:
        raise TableVersionError(
            f"{path} has schema {version}, this lutra reads up to {VERSION}; upgrade lutra"
        )
    if version < 1:
        raise NotATableError(f"{path} is damaged: it says that its schema is number {version}")
    problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise NotATableError(f"{path} is damaged: {problem}")
    if version < VERSION:
        with contextlib.closing(connect(path, "rw")) as writer, mapped(path):
            migrate(writer, version)
    if schema_of(connection) != expected_schema():
        raise NotATableError(f"{path} is damaged: its schema is not the one that lutra writes")
    check_values(path, connection)


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    """Type, name and SQL of all that the file defines, so that a foreign trigger would show."""
    query = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    return connection.execute(query).fetchall()


@cache
def expected_schema() -> list[tuple[str, str, str | None]]:
    """The `schema_of` an up-to-date table."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        return schema_of(connection)
