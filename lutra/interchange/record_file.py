"""Files of records, one for each row of a table: CSV, JSON lines and Parquet, read and written.

What is read is bounded, and nothing but text and numbers comes of it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lutra.errors import NotATableError
from lutra.files import read_bounded
from lutra.interchange.parquet import read_parquet, write_parquet

_MAX_BYTES = 64 << 20
_TOO_LARGE = f"is larger than {_MAX_BYTES >> 20} MiB: too large for a latency table"
_MOST_RECORDS = 200_000
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class Record(NamedTuple):
    """What a line says, by column; None where it says nothing. Lines of Parquet are its rows."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RecordFile:
    """A file's records; ``is_text`` where also its numbers are text."""

    path: Path
    sha256: str
    columns: Sequence[str]
    records: Sequence[Record]
    is_text: bool


class RecordFormat(NamedTuple):
    """How records are read of bytes and made bytes; ``is_text`` where also its numbers are text.

    What reads raises `ValueError`, with the line where there are lines.
    """

    read: Callable[[bytes], Iterator[Record]]
    write: Callable[[Sequence[str], Sequence[Mapping[str, Any]]], bytes]
    is_text: bool = False


def read_records(path: Path) -> RecordFile:
    """The records of a file, by the ending of its name; raises `NotATableError`."""
    form = RECORD_FORMATS[path.suffix.lower()]
    data = read_bounded(path, _MAX_BYTES, _TOO_LARGE, NotATableError)
    records: list[Record] = []
    columns: dict[str, None] = {}
    try:
        for record in form.read(data):
            records.append(record)
            columns.update(dict.fromkeys(record.values))
            if len(records) > _MOST_RECORDS:
                raise ValueError(f"it has more than {_MOST_RECORDS} rows")
    except ValueError as error:
        raise NotATableError(f"{path}: {error}") from error
    if not records:
        raise NotATableError(f"{path} holds no rows")
    digest = hashlib.sha256(data).hexdigest()
    return RecordFile(path, digest, [*columns], records, form.is_text)


def _read_csv(data: bytes) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(_decoded(data), newline=""), strict=True)
    try:
        columns = next(reader, [])
        _require_columns(columns)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise ValueError(
                    f"line {reader.line_num} has {len(cells)} columns, the first {len(columns)}"
                )
            values = zip(columns, (cell.strip() or None for cell in cells), strict=True)
            yield Record(reader.line_num, dict(values))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is no CSV: {error}") from error


def _require_columns(columns: Sequence[str]) -> None:
    """Raise `ValueError` for a first line that names a column twice, or columns apart by others."""
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"it has two columns '{twice:.40}'")
    for separator, words in _OTHER_SEPARATORS.items():
        if len(columns) == 1 and separator in columns[0]:
            raise ValueError(f"its columns are apart by {words}; write commas")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text") from error


def _read_lines(data: bytes) -> Iterator[Record]:
    for number, text in enumerate(_decoded(data).split("\n"), 1):
        if text.strip():
            yield Record(number, _object(text, number))


def _object(text: str, line: int) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {line} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"line {line} is no JSON object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _read_parquet(data: bytes) -> Iterator[Record]:
    for number, values in enumerate(read_parquet(data, _MOST_RECORDS), 1):
        yield Record(number, values)


def _write_csv(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def _write_lines(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    ordered = ({name: record[name] for name in columns} for record in records)
    return "".join(json.dumps(record) + "\n" for record in ordered).encode()


RECORD_FORMATS: Mapping[str, RecordFormat] = {
    ".csv": RecordFormat(_read_csv, _write_csv, is_text=True),
    ".jsonl": RecordFormat(_read_lines, _write_lines),
    ".parquet": RecordFormat(_read_parquet, write_parquet),
}
