"""Parquet by pyarrow, which lutra's extra ``parquet`` brings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from lutra.errors import UsageError
from lutra.text import why

_MOST_COLUMNS = 200
_MOST_UNPACKED = 256 << 20


def read_parquet(data: bytes, most_rows: int) -> list[dict[str, Any]]:
    """The rows of a Parquet file; raises `ValueError`, `UsageError` where pyarrow is missing."""
    arrow, parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data))
        _require_bounded(file.metadata, most_rows)
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"it is no Parquet file: {why(error):.200}") from error
    return rows


def write_parquet(columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> bytes:
    """A Parquet file of records; raises `UsageError` where pyarrow is missing."""
    arrow, parquet = _pyarrow()
    table = arrow.table({name: [record[name] for record in records] for name in columns})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _require_bounded(metadata: Any, most_rows: int) -> None:
    """Raise `ValueError` for what would unpack to more than a latency table has."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    unpacked = sum(group.total_byte_size for group in groups)
    if metadata.num_rows > most_rows or metadata.num_columns > _MOST_COLUMNS:
        raise ValueError(
            f"it has {metadata.num_rows} rows of {metadata.num_columns} columns: too large for a"
            " latency table"
        )
    if unpacked > _MOST_UNPACKED:
        raise ValueError(f"it unpacks to {unpacked >> 20} MiB: too large for a latency table")


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"Parquet files need pyarrow ({why(error):.100}): pip install 'lutra[parquet]', or use"
            " .csv or .jsonl"
        ) from error
    return pyarrow, parquet
