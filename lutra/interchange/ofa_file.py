"""Files of OFA's latency tables: flat YAML (or JSON), an object of numbers for each key.

::

    Conv-input:224x224x3-output:112x112x24: {count: 500, mean: 0.99, std: 0.017}

``mean`` is in ms; ``std`` may be ``var``, and both may be missing, like ``count``. It is read event
by event: nothing is built that such a file has no use for, and a key that stands twice is seen.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lutra.errors import NotATableError
from lutra.files import read_bounded
from lutra.tables.measurement import LEAST_MS, MOST_MS
from lutra.text import why

if TYPE_CHECKING:
    from yaml import Event

_MAX_BYTES = 8 << 20  # 41 resolutions of two spaces in one file have half a MiB
_TOO_LARGE = f"is larger than {_MAX_BYTES >> 20} MiB: too large for a latency table of OFA's"
_MOST_ENTRIES = 50_000
_MOST_RUNS = 1 << 31
_ENOUGH_TO_TELL = 10  # entries: then the last one has the fields of the others
# YAML's own words for numbers differ from version to version; these are floats in all of them.
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_LIKE = "a latency table of OFA's has lines like 'Conv-input:...: {mean: 0.99}'"


Fields = dict[str, str | None]
"""An entry's fields as text; None for what stands in quotation marks."""


class Entry(NamedTuple):
    """What a file says of one key: mean and standard deviation of so many runs, in ms."""

    mean_ms: float
    std_ms: float | None
    runs: int | None


@dataclass(frozen=True)
class OfaFile:
    """The entries of a file by their keys; ``name`` is the file's, ``sha256`` its digest."""

    path: Path
    sha256: str
    entries: dict[str, Entry]

    @property
    def name(self) -> str:
        return self.path.name


def read_ofa_file(path: str | Path) -> OfaFile:
    """The latency table in a file of OFA's form.

    Raises `NotATableError` with the line of what is no such table: another structure, numbers that
    cannot be milliseconds, a key that stands twice with different numbers.
    """
    path = Path(path)
    data = read_bounded(path, _MAX_BYTES, _TOO_LARGE, NotATableError)
    return OfaFile(path, hashlib.sha256(data).hexdigest(), _entries(_Reader(data, str(path))))


class _Reader:
    """The events of a YAML document; what it refuses is named by file and ``line``."""

    def __init__(self, data: bytes, where: str) -> None:
        self._events = self._parsed(data)
        self._where = where
        self.line = 1

    def _parsed(self, data: bytes) -> Iterator[Event]:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            yield from yaml.parse(data, Loader=loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            at = "" if mark is None else f", line {mark.line + 1}"
            reason = getattr(error, "problem", None) or why(error)
            raise NotATableError(f"{self._where}{at} is no YAML: {reason!s:.100}") from error

    def refuse(self, reason: str) -> NoReturn:
        raise NotATableError(f"{self._where}, line {self.line}: {reason}")

    def next(self) -> Event:
        event = next(self._events)
        if event.start_mark is not None:
            self.line = event.start_mark.line + 1
        if type(event).__name__ == "AliasEvent" or getattr(event, "anchor", None) is not None:
            self.refuse("anchors and aliases have no place in a latency table")
        if getattr(event, "tag", None) is not None:
            self.refuse("tags have no place in a latency table")
        return event

    def begin(self) -> None:
        """Go into the document's mapping."""
        for wanted in ("StreamStartEvent", "DocumentStartEvent", "MappingStartEvent"):
            if type(event := self.next()).__name__ != wanted:
                found = "it is empty" if _is(event, "StreamEnd") else "it holds something else"
                self.refuse(f"{_LIKE}; {found}")

    def end(self) -> None:
        """Come out of it; nothing may follow."""
        for wanted in ("DocumentEndEvent", "StreamEndEvent"):
            if type(self.next()).__name__ != wanted:
                self.refuse("a second document follows")

    def each_key(self) -> Iterator[str]:
        """The keys of the mapping that was begun; whoever asks takes the value of each."""
        while not _is(event := self.next(), "MappingEnd"):
            if not _is(event, "Scalar"):
                self.refuse(f"a key is no text: {_LIKE}")
            yield str(event.value)

    def mapping(self, key: str) -> None:
        """Go into the mapping that is the value of a key."""
        if not _is(self.next(), "MappingStart"):
            self.refuse(f"'{key:.80}' must be an object with a mean: {_LIKE}")

    def scalar(self, name: str) -> str | None:
        """The value of a field; None for text in quotation marks."""
        event = self.next()
        if not _is(event, "Scalar"):
            self.refuse(f"'{name:.40}' must be a number")
        return str(event.value) if event.implicit[0] else None


def _is(event: Event, name: str) -> bool:
    return type(event).__name__ == f"{name}Event"


def _entries(reader: _Reader) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    reader.begin()
    for key in reader.each_key():
        line = reader.line
        fields = _fields(reader, key)
        reader.line = line  # the reader is where the entry ends
        entry = _entry(reader, key, fields)
        if found.setdefault(key, entry) != entry:
            reader.refuse(f"'{key:.200}' stands there twice, with different numbers")
        if len(found) > _MOST_ENTRIES:
            reader.refuse(f"more than {_MOST_ENTRIES} entries")
    reader.end()
    _require_end(reader, found)
    return found


def _require_end(reader: _Reader, entries: dict[str, Entry]) -> None:
    """Refuse a file that was cut off within its last mean: YAML has no mark of its end."""
    if len(entries) < _ENOUGH_TO_TELL:
        return
    *others, last = entries.values()
    if last.std_ms is None and all(entry.std_ms is not None for entry in others):
        reader.refuse(f"'{[*entries][-1]:.200}' has no std or var, as all others: is it cut off?")


def _fields(reader: _Reader, key: str) -> Fields:
    reader.mapping(key)
    fields: Fields = {}
    for name in reader.each_key():
        if name in fields:
            reader.refuse(f"'{name:.40}' stands twice in '{key:.200}'")
        fields[name] = reader.scalar(name)
    return fields


def _entry(reader: _Reader, key: str, fields: Fields) -> Entry:
    if "mean" not in fields:
        reader.refuse(f"'{key:.200}' has no mean")
    mean_ms = _number(reader, fields, "mean")
    if not LEAST_MS <= mean_ms <= MOST_MS:
        reader.refuse(f"the mean of '{key:.200}' is {mean_ms:g}: no op takes so many ms")
    std_ms = _number(reader, fields, "std") if "std" in fields else None
    if std_ms is None and "var" in fields:
        std_ms = math.sqrt(_number(reader, fields, "var"))
    return Entry(mean_ms, std_ms, _runs(reader, fields) if "count" in fields else None)


def _number(reader: _Reader, fields: Fields, name: str) -> float:
    """A field's number; negative only for the mean, of which the caller has more to say."""
    text = fields[name]
    value = float(text) if text is not None and _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value) or abs(value) > MOST_MS:
        reader.refuse(f"'{name}' must be a number{'' if text is None else f', not {text:.40}'}")
    if name != "mean" and value < 0:
        reader.refuse(f"'{name}' is {value:g}: it cannot be below zero")
    return value


def _runs(reader: _Reader, fields: Fields) -> int:
    value = _number(reader, fields, "count")
    if not value.is_integer() or not 1 <= value <= _MOST_RUNS:
        reader.refuse(f"'count' is {value:g}: it must be a whole number from 1")
    return int(value)
