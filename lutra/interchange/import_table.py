"""Import: latency tables of others as one of ours, for networks of one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lutra.errors import NotATableError, TableWriteError, UsageError
from lutra.files import write_atomically
from lutra.files.kinds import is_there
from lutra.files.scratch import scratch_folder
from lutra.interchange.file_rows import FileRows, Rows
from lutra.interchange.ofa_rows import ofa_rows
from lutra.interchange.record_file import RECORD_FORMATS
from lutra.interchange.record_rows import record_rows
from lutra.spaces import SearchSpace, get_space
from lutra.tables import LatencyTable, Target
from lutra.tables.profiled import note_profiled


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
    """Make a table of others' latency tables, told by their names' endings.

    OFA's are YAML or JSON files, often one for each resolution. Of ``.csv``, ``.jsonl`` and
    ``.parquet`` files the columns count: ``key`` (`OpConfig.key`), one of ``latency_ms``,
    ``latency_us`` and ``latency_s``, and where they are there ``resolution`` (pixels of the
    network's image; without it a row is good for all that the file has every op of), ``runs`` and
    ``std_ms``; of `export_table`'s the rows of ops.

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
        found = _file_rows(Path(path), space)
        _add(rows, found.rows, path)
        left_out[str(path)] = found.left_out
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


def _file_rows(path: Path, space: SearchSpace) -> FileRows:
    in_records = path.suffix.lower() in RECORD_FORMATS
    return record_rows(path, space) if in_records else ofa_rows(path, space)


def _add(rows: Rows, more: Rows, path: str | Path) -> None:
    """Add a file's rows; raises `NotATableError` where they contradict another's."""
    for place, row in more.items():
        known = rows.setdefault(place, row)
        if known.latency_ms != row.latency_ms:
            raise NotATableError(
                f"{path} contradicts {known.file}: '{row.entry}' is {row.latency_ms:g} ms here,"
                f" {known.latency_ms:g} ms there; import one of the two"
            )
