"""What a file of others comes to: rows of ours, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lutra.errors import NotATableError
from lutra.interchange.units import require_pace
from lutra.ops import OpConfig
from lutra.tables import Imported

Rows = dict[tuple[str, int], Imported]
"""What is imported, by op key and resolution."""


class FileRows(NamedTuple):
    """A file's rows; ``left_out`` counts its entries that no network of the space has."""

    rows: Rows
    left_out: int


def require_milliseconds(path: Path, resolution: int, rows: Mapping[OpConfig, Imported]) -> None:
    """Raise `NotATableError` where no device takes what a resolution's ops add up to."""
    macs = sum(op.macs for op in rows)
    total_ms = sum(row.latency_ms for row in rows.values())
    if total_ms <= 0:
        raise NotATableError(f"{path}: at {resolution} its ops take no time; it was not measured")
    require_pace(f"{path}: at {resolution} its ops", macs, total_ms)
