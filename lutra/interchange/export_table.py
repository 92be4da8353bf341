"""Export: a table of ours in formats of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lutra.errors import ResultError, UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import TABLE_EXPORTS
from lutra.interchange.ofa_export import ofa_entries, ofa_text, one_resolution
from lutra.interchange.ofa_keys import dialect_of
from lutra.interchange.record_file import RECORD_FORMATS
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable, opened_table
from lutra.tables.documents import CALIBRATION
from lutra.tables.frame import FRAME_COLUMNS, row_record

_OFA = (".yaml", ".json")
EXPORT_FORMATS = tuple(suffix[1:] for suffix in TABLE_EXPORTS)


@dataclass(frozen=True)
class ExportSummary:
    """What an export came to: so many ``rows`` in a ``format``.

    ``resolutions`` are those that an OFA table is of; empty for all rows of the table.
    ``with_calibration`` says whether the numbers add up to what lutra predicts by the table's
    calibration: True, False where the table has one that is not in them, None where it has none.
    ``remark`` is what is to be known of the predictions: that they are stale, say.
    """

    format: str
    rows: int
    resolutions: Sequence[int]
    with_calibration: bool | None
    remark: str | None


def export_table(
    table: LatencyTable | str | Path,
    output: str | Path,
    *,
    format: str | None = None,
    space: SearchSpace | str | None = None,
    resolution: int | None = None,
    dialect: str | None = None,
    plain_sum: bool = False,
) -> ExportSummary:
    """Write a table as CSV, JSON lines, Parquet or as a latency table of OFA's (YAML, JSON).

    ``format`` is one of ``csv``, ``jsonl``, ``parquet``, ``yaml`` and ``json``, by default what the
    file's name ends with. The first three hold every row of `LatencyTable.to_frame`, latencies of
    ops alone. OFA's are for their estimators: the sum over a network's rows is what lutra predicts
    of it, with the table's calibration, or with ``plain_sum`` what its ops take alone. They are of
    one ``space`` and ``resolution``, which must be named where the table has several, and of the
    ``dialect`` that the ``ofa`` package reads, or ``nsganetv2``.

    Raises `UsageError` for an unknown format or what goes with another, or where pyarrow is
    missing, `TableError` for a table that cannot be read or said so, and `ResultError` where the
    file cannot be written.

    >>> summary = export_table("cpu.lut", "224.yaml")
    >>> summary.rows, summary.resolutions, summary.with_calibration
    (96, (224,), True)
    """
    path = Path(output)
    suffix = _suffix(path, format)
    if suffix not in _OFA and (resolution or dialect or plain_sum or space):
        raise UsageError(
            f"{suffix[1:]} holds every row of a table: space, resolution, dialect and plain sum go"
            " with OFA's, .yaml or .json"
        )
    check_output(path, TABLE_EXPORTS[suffix])
    with opened_table(table) as opened:
        if suffix in _OFA:
            summary, data = _as_ofa(opened, suffix, space, resolution, dialect, plain_sum)
        else:
            summary, data = _as_records(opened, suffix)
    write_atomically(path, data, ResultError, kind=TABLE_EXPORTS[suffix])
    return summary


def _suffix(path: Path, format: str | None) -> str:
    suffix = path.suffix.lower() if format is None else f".{format}"
    suffix = {".yml": ".yaml"}.get(suffix, suffix)
    if suffix not in TABLE_EXPORTS:
        said = f"{path} ends with none of them" if format is None else f"not '{format:.40}'"
        raise UsageError(f"tables are exported as {', '.join(EXPORT_FORMATS)}; {said}")
    return suffix


def _as_records(table: LatencyTable, suffix: str) -> tuple[ExportSummary, bytes]:
    records = [row_record(row) for row in table.rows()]
    data = RECORD_FORMATS[suffix].write(FRAME_COLUMNS, records)
    calibrated = False if table.meta(CALIBRATION) else None
    return ExportSummary(suffix[1:], len(records), (), calibrated, None), data


def _as_ofa(
    table: LatencyTable,
    suffix: str,
    space: SearchSpace | str | None,
    resolution: int | None,
    dialect_name: str | None,
    plain_sum: bool,
) -> tuple[ExportSummary, bytes]:
    predictor = EfficiencyPredictor(table, space, plain_sum=plain_sum)
    dialect = dialect_of(dialect_name, predictor.space)
    resolutions = one_resolution(predictor, dialect, resolution)
    sources = {
        (row.key, row.imported.resolution): row.imported
        for row in table.rows("op")
        if row.imported is not None
    }
    entries = ofa_entries(predictor, dialect, resolutions, sources)
    with_calibration = (
        (False if table.meta(CALIBRATION) else None)
        if plain_sum
        else (predictor.calibrated or None)
    )
    remark = predictor.origin or predictor.staleness(resolutions)
    summary = ExportSummary(suffix[1:], len(entries), tuple(resolutions), with_calibration, remark)
    return summary, ofa_text(entries, as_json=suffix == ".json")
