"""OFA's latency tables as rows of ours, for networks of one space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lutra.errors import NotATableError, UsageError
from lutra.interchange.file_rows import FileRows, Rows, require_milliseconds
from lutra.interchange.ofa_file import OfaFile, read_ofa_file
from lutra.interchange.ofa_keys import DIALECTS, Dialect
from lutra.ops import OpConfig
from lutra.spaces import SearchSpace, get_space, space_names
from lutra.tables import Imported


def ofa_rows(path: Path, space: SearchSpace) -> FileRows:
    """What a file of OFA's says of the space; raises `NotATableError`, `UsageError`."""
    file = read_ofa_file(path)
    found = _resolutions_in(file, space)
    if found is None:
        raise NotATableError(_of_another_space(file, space))
    dialect, resolutions = found
    rows: Rows = {}
    used: set[str | None] = set()
    for resolution in resolutions:
        keys = dialect.keys(space, resolution)
        _require_all(file, space, resolution, keys)
        used.update(keys.values())
        at = {op: _row(file, resolution, key) for op, key in keys.items()}
        require_milliseconds(path, resolution, at)
        rows.update({(op.key, resolution): row for op, row in at.items()})
    return FileRows(rows, len(file.entries.keys() - used))


def _resolutions_in(file: OfaFile, space: SearchSpace) -> tuple[Dialect, list[int]] | None:
    """The dialect that has most of the file's keys, and whose first layers are in the file."""
    known = []
    for dialect in DIALECTS:
        stems = {r: dialect.stem_key(space, r) for r in space.resolutions}
        resolutions = [r for r, stem in stems.items() if stem in file.entries]
        keys = {key for r in resolutions for key in dialect.keys(space, r).values()}
        known.append((len(keys & file.entries.keys()), resolutions, dialect))
    most, resolutions, dialect = max(known, key=lambda item: item[0])
    return (dialect, resolutions) if most else None


def _require_all(
    file: OfaFile, space: SearchSpace, resolution: int, keys: Mapping[OpConfig, str | None]
) -> None:
    missing = [key for key in keys.values() if key is not None and key not in file.entries]
    if missing:
        raise NotATableError(
            f"{file.path} lacks {len(missing)} of the {len(keys)} ops of {space.name} at"
            f" {resolution}, such as '{missing[0]}'{_other_space(file, space)}"
        )


def _row(file: OfaFile, resolution: int, key: str | None) -> Imported:
    """What is stored of an op: nothing, where its estimator has no row for it."""
    if key is None:
        return Imported(resolution, 0.0, "", file.name, file.sha256)
    entry = file.entries[key]
    return Imported(
        resolution, entry.mean_ms, key, file.name, file.sha256, entry.runs, entry.std_ms
    )


def _of_another_space(file: OfaFile, space: SearchSpace) -> str:
    first = next(iter(file.entries), None)
    if first is None:
        return f"{file.path} holds no rows"
    return (
        f"{file.path} holds no first layer of {space.name}, only such rows as '{first:.200}'"
        f"{_other_space(file, space)}"
    )


def _other_space(file: OfaFile, space: SearchSpace) -> str:
    """Words for which spaces have all their ops in the file, where some do."""
    fitting = [name for name in space_names() if name != space.name and _fits(file, name)]
    return f": it is a table of {' and of '.join(fitting)}" if fitting else ""


def _fits(file: OfaFile, name: str) -> bool:
    try:
        found = _resolutions_in(file, get_space(name))
    except UsageError:
        return False
    return found is not None and all(
        key is None or key in file.entries
        for resolution in found[1]
        for key in found[0].keys(get_space(name), resolution).values()
    )
