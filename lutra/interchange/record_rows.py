"""Files of records as rows of ours: by lutra's own op keys, for networks of one space."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from lutra.errors import NotATableError
from lutra.interchange.file_rows import FileRows, Rows, require_milliseconds
from lutra.interchange.record_file import Record, RecordFile, read_records
from lutra.ops import OpConfig
from lutra.spaces import SearchSpace
from lutra.tables import Imported
from lutra.tables.measurement import LEAST_MS, MOST_MS

# What a column's number is worth in ms. A column without a unit in its name is never guessed at.
_UNITS: Mapping[str, float] = {"latency_ms": 1.0, "latency_us": 1e-3, "latency_s": 1e3}
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_MOST_RUNS = 1 << 31
_MOST_PIXELS = 1 << 16

Found = dict[tuple[str, int | None], tuple[Imported, int]]
"""A row and its line, by op key and resolution; None for all resolutions."""


def record_rows(path: Path, space: SearchSpace) -> FileRows:
    """What a file of records says of the space; raises `NotATableError`."""
    file = read_records(path)
    found = _Reader(file).rows()
    places: Mapping[int, Mapping[OpConfig, tuple[str, int | None]]]
    ops = {resolution: space.ops_at([resolution]) for resolution in space.resolutions}
    if any(resolution is None for _, resolution in found):
        resolutions = _complete(file, space, ops, found)
        places = {r: {op: (op.key, None) for op in ops[r]} for r in resolutions}
    else:
        resolutions = sorted({r for _, r in found if r is not None} & ops.keys())
        places = {r: {op: (op.key, r) for op in ops[r]} for r in resolutions}
        if not resolutions:
            raise NotATableError(f"{path} is of no resolution that {space.name} has")
    return _collected(file, space, places, found)


def _collected(
    file: RecordFile,
    space: SearchSpace,
    places: Mapping[int, Mapping[OpConfig, tuple[str, int | None]]],
    found: Found,
) -> FileRows:
    rows: Rows = {}
    for resolution, needed in places.items():
        missing = [op for op, place in needed.items() if place not in found]
        if missing:
            raise _lacks(file, space, resolution, missing, len(needed))
        at = {op: replace(found[place][0], resolution=resolution) for op, place in needed.items()}
        require_milliseconds(file.path, resolution, at)
        rows.update({(op.key, resolution): row for op, row in at.items()})
    used = {place for needed in places.values() for place in needed.values()}
    return FileRows(rows, len(found.keys() - used))


def _complete(
    file: RecordFile, space: SearchSpace, ops: Mapping[int, Sequence[OpConfig]], found: Found
) -> list[int]:
    """The resolutions that a file has every op of; raises `NotATableError` where it has of none."""
    if any(resolution is not None for _, resolution in found):
        raise NotATableError(f"{file.path} has rows with and without a resolution; write it in all")
    missing = {r: [op for op in at if (op.key, None) not in found] for r, at in ops.items()}
    nearest = min(missing, key=lambda r: len(missing[r]))
    if missing[nearest]:
        raise _lacks(file, space, nearest, missing[nearest], len(ops[nearest]))
    return [r for r, ops_missing in missing.items() if not ops_missing]


def _lacks(
    file: RecordFile, space: SearchSpace, resolution: int, missing: Sequence[OpConfig], of: int
) -> NotATableError:
    has = f"; it has such rows as '{next(iter(file.records)).values.get('key')!s:.100}'"
    return NotATableError(
        f"{file.path} lacks {len(missing)} of the {of} ops of {space.name} at {resolution}, such as"
        f" '{missing[0].key}'{has if len(missing) == of else ''}"
    )


class _Reader:
    """Reads the records of a file; what it refuses is named by file and line."""

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._line = 0
        self._latency = self._latency_column()

    def rows(self) -> Found:
        """Every op that has a latency; of those without one nothing is known."""
        found: Found = {}
        for record in self._file.records:
            self._line = record.line
            if record.values.get("category") not in (None, "op"):
                continue
            row = self._row(record)
            if row is None:
                continue
            key = str(record.values["key"])
            resolution = row.resolution or None
            known, line = found.setdefault((key, resolution), (row, record.line))
            if known != row:
                self._refuse(f"'{key:.200}' stands in line {line} too, with different numbers")
        return found

    def _latency_column(self) -> str:
        named = [name for name in _UNITS if name in self._file.columns]
        if "key" not in self._file.columns or len(named) != 1:
            has = ", ".join(f"{name:.40}" for name in self._file.columns[:12])
            wants = (
                f"one latency column, not {' and '.join(named)}"
                if len(named) > 1
                else "the columns key and latency_ms (or latency_us, latency_s): a unit is not"
                " guessed at"
            )
            raise NotATableError(f"{self._file.path} needs {wants}; it has {has}")
        return named[0]

    def _row(self, record: Record) -> Imported | None:
        """A record's row, of resolution 0 where it says none; None where it has no latency."""
        values = record.values
        if not isinstance(values.get("key"), str):
            self._refuse("'key' must be text, such as 'linear/1x1x1280-1x1x1000'")
        latency = self._number(values, self._latency, MOST_MS)
        if latency is None:
            return None
        latency_ms = latency * _UNITS[self._latency]
        # An imported table's own: what its format counts within another entry.
        part = latency_ms == 0 and "entry" in values and not values["entry"]
        if not part and not LEAST_MS <= latency_ms <= MOST_MS:
            self._refuse(f"{self._latency} is {latency:g}: no op takes that{self._others()}")
        runs = self._number(values, "runs", _MOST_RUNS, whole=True)
        return Imported(
            int(self._number(values, "resolution", _MOST_PIXELS, whole=True) or 0),
            latency_ms,
            "" if part else values["key"],
            self._file.path.name,
            self._file.sha256,
            None if runs is None else int(runs),
            self._number(values, "std_ms", MOST_MS),
        )

    def _number(
        self, values: Mapping[str, Any], name: str, most: float, *, whole: bool = False
    ) -> float | None:
        value = values.get(name)
        if value is None:
            return None
        if self._file.is_text:
            value = float(value) if _NUMBER.fullmatch(value) else value
        if isinstance(value, bool | str) or not isinstance(value, int | float):
            self._refuse(f"{name} must be a number, not '{value!s:.40}'")
        if not -most <= value <= most:  # NaN neither
            self._refuse(f"{name} is {value!s:.40}: it cannot be that large")
        least = 1 if whole else -MOST_MS if name == self._latency else 0
        if value < least or (whole and value != int(value)):
            self._refuse(f"{name} is {value:g}: it must be a {'whole ' * whole}number from {least}")
        return value

    def _others(self) -> str:
        """How many more rows have no latency above zero, where there are some."""
        count = sum(self._is_nothing(record) for record in self._file.records) - 1
        return f" (nor what {count} other rows say)" if count > 0 else ""

    def _is_nothing(self, record: Record) -> bool:
        value = record.values.get(self._latency)
        try:
            return value is not None and float(value) <= 0
        except (TypeError, ValueError, OverflowError):
            return False

    def _refuse(self, reason: str) -> NoReturn:
        raise NotATableError(f"{self._file.path}, line {self._line}: {reason}")
