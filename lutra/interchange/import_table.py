"""Import: OFA's latency tables as one of ours, for networks of one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lutra.errors import NotATableError, TableWriteError, UsageError
from lutra.files import write_atomically
from lutra.files.kinds import is_there
from lutra.files.scratch import scratch_folder
from lutra.interchange.ofa_file import OfaFile, read_ofa_file
from lutra.interchange.ofa_keys import DIALECTS, Dialect
from lutra.interchange.units import require_milliseconds
from lutra.ops import OpConfig
from lutra.spaces import SearchSpace, get_space, space_names
from lutra.tables import Imported, LatencyTable, Target
from lutra.tables.profiled import note_profiled

Rows = dict[tuple[str, int], Imported]
"""What is imported, by op key and resolution."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import came to: ``ops`` rows for networks of the ``resolutions`` (pixels).

    ``left_out`` counts each file's entries that no network of the space has.
    """

    space: str
    resolutions: tuple[int, ...]
    ops: int
    left_out: Mapping[str, int]


def import_table(
    files: Sequence[str | Path] | str | Path,
    space: SearchSpace | str,
    table: str | Path,
    *,
    device_name: str | None = None,
    runtime_name: str | None = None,
) -> ImportSummary:
    """Make a table of OFA's latency tables: YAML or JSON files, often one for each resolution.

    Predictions of the new ``table`` are the sums that the authors' estimators make: an op has a
    latency of its own at each resolution. They have no interval, since nothing tells how far off
    they are, and nothing can be measured into the table: the files say neither device nor runtime.
    ``device_name`` and ``runtime_name`` are what you know of them.

    Raises `NotATableError` for a file that is no such table, lacks an op of the space, contradicts
    another or is not in ms, `UsageError` for an unknown space or one that OFA has no tables of, and
    `TableWriteError` where the table cannot be written or is there already.

    >>> summary = import_table("224_lookup_table.yaml", "ofa-mbv3-w1.0", "note10.lut")
    >>> summary.ops, summary.resolutions
    (96, (224,))
    >>> EfficiencyPredictor("note10.lut").latency.cheapest([224])[0] > 0  # ms
    True
    """
    space, table = get_space(space), Path(table)
    files = [files] if isinstance(files, str | Path) else files
    if is_there(table):
        raise TableWriteError(
            f"{table} is there already: an import makes a new table; name another file, and import"
            " the files of all resolutions at once"
        )
    rows: Rows = {}
    left_out = {}
    for path in files:
        file = read_ofa_file(path)
        left_out[str(path)] = _add_rows(rows, file, space)
    if not rows:
        raise UsageError("name at least one file to import")
    _write(table, rows, space, Target.of_import(device_name, runtime_name))
    return ImportSummary(space.name, _resolutions(rows), len(rows), left_out)


def _resolutions(rows: Rows) -> tuple[int, ...]:
    return tuple(sorted({resolution for _, resolution in rows}))


def _write(path: Path, rows: Rows, space: SearchSpace, target: Target) -> None:
    """The whole table, or none."""
    with scratch_folder() as folder:
        made = folder / "imported.lut"
        with LatencyTable.create(made, target) as table:
            table.record_imports((key, row) for (key, _), row in rows.items())
            note_profiled(table, None, space.name, _resolutions(rows))
        write_atomically(path, made.read_bytes(), TableWriteError, new=True)


def _add_rows(rows: Rows, file: OfaFile, space: SearchSpace) -> int:
    """Add what a file says of the space; how many of its entries no network of it has."""
    found = _resolutions_in(file, space)
    if found is None:
        raise NotATableError(_of_another_space(file, space))
    dialect, resolutions = found
    used: set[str | None] = set()
    for resolution in resolutions:
        keys = dialect.keys(space, resolution)
        _require_all(file, space, resolution, keys)
        _require_milliseconds(file, resolution, keys)
        used.update(keys.values())
        for op, key in keys.items():
            row = _row(file, resolution, key)
            known = rows.setdefault((op.key, resolution), row)
            if known.latency_ms != row.latency_ms:
                raise NotATableError(
                    f"{file.path} contradicts {known.file}: '{key}' is {row.latency_ms:g} ms here,"
                    f" {known.latency_ms:g} ms there; import one of the two"
                )
    return len(file.entries.keys() - used)


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


def _require_milliseconds(
    file: OfaFile, resolution: int, keys: Mapping[OpConfig, str | None]
) -> None:
    macs = sum(op.macs for op in keys)
    total_ms = sum(file.entries[key].mean_ms for key in keys.values() if key is not None)
    require_milliseconds(f"{file.path}: at {resolution} it", macs, total_ms)


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
