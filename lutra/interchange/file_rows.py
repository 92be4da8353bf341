"""What a file of others comes to: rows of ours, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lutra.errors import NotATableError
from lutra.ops import OpConfig
from lutra.tables import Imported

# Multiply-accumulates per ms, over all rows of a resolution. A phone's core does 1e7, a small
# board's 1e5, a GPU with one image 1e8: what is beyond these is of another unit.
_LEAST_MACS_PER_MS, _MOST_MACS_PER_MS = 2e4, 1e9

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
    pace = macs / total_ms
    if not _LEAST_MACS_PER_MS <= pace <= _MOST_MACS_PER_MS:
        unit, factor = ("seconds", "1000") if pace > _MOST_MACS_PER_MS else ("ns or us", "0.001")
        raise NotATableError(
            f"{path}: at {resolution} its ops would do {pace * 1e3:.2g} multiply-accumulates a"
            f" second, so its numbers are not ms; where they are {unit}, multiply them by {factor}"
        )
