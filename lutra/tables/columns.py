"""Records as rows of SQLite and back, by the names of their fields.

A column has the name of the field that it holds: to add one takes a migration and a field.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)


# How the fields that are no plain numbers or text are stored, and read again.
_STORED: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "flags": (",".join, lambda text: tuple(text.split(",")) if text else ()),
    "transient": (int, bool),
}


@cache
def names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    """The columns that hold records of a kind."""
    return tuple(field.name for field in fields(kind))


def selected(kind: type[DataclassInstance], table: str, prefix: str = "") -> str:
    """The SQL that selects a kind's columns from ``table``, each named ``prefix`` + its name."""
    return ", ".join(f"{table}.{name} AS {prefix}{name}" for name in names(kind))


def to_columns(record: DataclassInstance) -> dict[str, Any]:
    """A record's values by column, as SQLite stores them."""
    values = {name: getattr(record, name) for name in names(type(record))}
    return {name: _STORED[name][0](v) if name in _STORED else v for name, v in values.items()}


def from_columns(kind: type[Record], row: sqlite3.Row, prefix: str = "") -> Record:
    """The record that a row of a query holds in the columns of `selected`."""
    values = {name: row[prefix + name] for name in names(kind)}
    for name, (_, read) in _STORED.items():
        if name in values:
            values[name] = read(values[name])
    return kind(**values)


def insert(
    connection: sqlite3.Connection, table: str, values: Mapping[str, Any], *, replace: bool = False
) -> int:
    """Insert a row by the names of its columns; the number that SQLite gave it."""
    verb = "INSERT OR REPLACE" if replace else "INSERT"
    marks = ", ".join(f":{name}" for name in values)
    query = f"{verb} INTO {table} ({', '.join(values)}) VALUES ({marks})"
    number = connection.execute(query, dict(values)).lastrowid
    assert number is not None
    return number


def subject_id(connection: sqlite3.Connection, category: str, key: str, role: str) -> int:
    """The number of a workload, which is added where it is new."""
    connection.execute(
        "INSERT INTO subjects (category, key, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (category, key, role),
    )
    query = "SELECT id FROM subjects WHERE category = ? AND key = ?"
    return int(connection.execute(query, (category, key)).fetchone()[0])


def insert_all(
    connection: sqlite3.Connection,
    table: str,
    category: str,
    records: Iterable[tuple[str, DataclassInstance]],
) -> None:
    """Insert a record for each workload of a category, by its key."""
    for key, record in records:
        subject = subject_id(connection, category, key, "")
        insert(connection, table, {"subject": subject, **to_columns(record)})
