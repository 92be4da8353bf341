"""The latency table: one SQLite file that people share, diff and commit."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lutra.errors import NotATableError, TableWriteError
from lutra.tables.connection import check_schema, connect, mapped
from lutra.tables.measurement import Category, Failure, Measurement, Row, Visit
from lutra.tables.schema import migrate
from lutra.tables.target import Target

if TYPE_CHECKING:
    import pandas

_FRAME_COLUMNS = (
    "category",
    "key",
    "status",
    "latency_ms",
    "ci_low_ms",
    "ci_high_ms",
    "median_ms",
    "minimum_ms",
    "rounds",
    "processes",
    "drift",
    "flags",
    "clock_mhz",
    "device_ms",
    "bound",
    "nodes",
    "delegated_nodes",
    "failure",
)


_VISITS = (
    "SELECT round, process, low_ms, v.median_ms, v.minimum_ms, blocks, runs_per_block,"
    " timed_seconds, v.drift, v.flags, reference_ms, clock_mhz, device_ms, key"
    " FROM visits v JOIN subjects s ON s.id = v.subject"
)


class LatencyTable:
    """One target, many subjects; every visit is committed when it is recorded.

    Open one with `open` or `create`; it is a context manager. While a table is open for writing,
    SQLite keeps a ``-wal`` file beside it; closing folds that in again, and after a kill the next
    opening does.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writable: bool) -> None:
        self.path = path
        self._connection = connection
        self._writable = writable

    @classmethod
    def create(cls, path: Path, target: Target) -> LatencyTable:
        """A new, empty table for a target; raises `TableWriteError` if the file exists."""
        if path.exists():
            raise TableWriteError(f"{path} already exists")
        connection = connect(path, "rwc")
        try:
            with mapped(path):
                migrate(connection, 0)
                table = cls._writer(path, connection)
            table.put_meta("target", target.to_json())
        except BaseException:
            connection.close()
            for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal")):
                name.unlink(missing_ok=True)
            raise
        return table

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> LatencyTable:
        """An existing table.

        Raises `NotATableError` (missing, another kind of file, damaged), `TableVersionError`
        (newer schema) or, to write, `TableWriteError` (read-only, locked).
        """
        if not path.is_file():
            raise NotATableError(
                f"there is no table {path}; `lutra profile ... -o {path}` makes one"
            )
        connection = connect(path, "rw" if write else "ro")
        try:
            with mapped(path):
                check_schema(path, connection)
                table = (
                    cls._writer(path, connection)
                    if write
                    else cls(path, connection, writable=False)
                )
            _ = table.target
        except BaseException:
            connection.close()
            raise
        return table

    @classmethod
    def _writer(cls, path: Path, connection: sqlite3.Connection) -> LatencyTable:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return cls(path, connection, writable=True)

    def close(self) -> None:
        """Fold the write-ahead log into the one file and close it; safe to call twice."""
        if self._writable:
            with contextlib.suppress(sqlite3.Error):  # another reader: the next closing does it
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        self._writable = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # what the table speaks of

    @property
    def target(self) -> Target:
        """The operating point of every number in this table."""
        return Target.from_json(self.meta("target"))

    def meta(self, name: str) -> Any:
        """A stored JSON document (``target``, ``space``, ``calibration``...), or None."""
        found = self._rows("SELECT value FROM meta WHERE name = ?", name)
        try:
            return json.loads(found[0][0]) if found else None
        except (ValueError, RecursionError) as error:
            raise NotATableError(f"{self.path} is damaged: {name} is not JSON") from error

    def put_meta(self, name: str, document: Any) -> None:
        """Store a JSON document under a name, replacing what was there."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(document))
            )

    # writing

    def record_visit(
        self,
        category: Category,
        key: str,
        visit: Visit,
        measurement: Measurement,
        role: str = "",
        nodes: tuple[int, int] | None = None,
    ) -> int:
        """Commit a visit and the measurement it now adds up to; a past failure is withdrawn.

        Returns the visit's number, for `flag_visit`.
        """
        with self._transaction() as connection:
            subject = _subject_id(connection, category, key, role)
            if nodes is not None:
                connection.execute(
                    "UPDATE subjects SET nodes = ?, delegated_nodes = ? WHERE id = ?",
                    (*nodes, subject),
                )
            cursor = connection.execute(
                "INSERT INTO visits (subject, round, process, low_ms, median_ms, minimum_ms,"
                " blocks, runs_per_block, timed_seconds, drift, flags, at, reference_ms,"
                " clock_mhz, device_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    subject,
                    visit.round,
                    visit.process,
                    visit.low_ms,
                    visit.median_ms,
                    visit.minimum_ms,
                    visit.blocks,
                    visit.runs_per_block,
                    visit.timed_seconds,
                    visit.drift,
                    ",".join(visit.flags),
                    _now(),
                    json.dumps(visit.reference_ms) if visit.reference_ms else "",
                    visit.clock_mhz,
                    visit.device_ms,
                ),
            )
            connection.execute("DELETE FROM failures WHERE subject = ?", (subject,))
            _put_measurement(connection, subject, measurement)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def flag_visit(
        self, number: int, visit: Visit, category: Category, key: str, measurement: Measurement
    ) -> None:
        """Commit what became known of a visit later (its drift and flags), and the new sum."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE visits SET drift = ?, flags = ? WHERE id = ?",
                (visit.drift, ",".join(visit.flags), number),
            )
            _put_measurement(connection, _subject_id(connection, category, key, ""), measurement)

    def record_failure(
        self, category: Category, key: str, failure: Failure, role: str = ""
    ) -> None:
        """Commit that a subject failed; one that has a measurement keeps it instead."""
        with self._transaction() as connection:
            subject = _subject_id(connection, category, key, role)
            measured = "SELECT 1 FROM measurements WHERE subject = ?"
            if connection.execute(measured, (subject,)).fetchone() is None:
                connection.execute(
                    "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        subject,
                        failure.kind,
                        failure.message,
                        failure.transient,
                        failure.attempts,
                        _now(),
                    ),
                )

    def record_measurements(self, measurements: Mapping[tuple[Category, str], Measurement]) -> None:
        """Replace what subjects' visits add up to: their correction, flags or status changed."""
        with self._transaction() as connection:
            for (category, key), measurement in measurements.items():
                subject = _subject_id(connection, category, key, "")
                _put_measurement(connection, subject, measurement)

    def record_run(self, document: Mapping[str, Any]) -> None:
        """Keep what a profiling run was: command, version, seed, seconds."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO runs (started, document) VALUES (?, ?)", (_now(), json.dumps(document))
            )

    # reading

    def rows(self, category: Category | None = None, role: str | None = None) -> list[Row]:
        """Every subject with its measurement or failure, in the order they were first measured."""
        found = self._rows(
            "SELECT category, key, latency_ms, ci_low_ms, ci_high_ms, m.median_ms, m.minimum_ms,"
            " rounds, processes, m.drift, m.flags, status, kind, message, transient, attempts,"
            " m.clock_mhz, m.device_ms, nodes, delegated_nodes"
            " FROM subjects s LEFT JOIN measurements m ON m.subject = s.id"
            " LEFT JOIN failures f ON f.subject = s.id"
            " WHERE (?1 IS NULL OR category = ?1) AND (?2 IS NULL OR role = ?2)"
            " AND (latency_ms IS NOT NULL OR kind IS NOT NULL) ORDER BY s.id",
            category,
            role,
        )
        return [_row(values) for values in found]

    def row(self, category: Category, key: str) -> Row | None:
        """One subject, or None if it was never tried."""
        return next((row for row in self.rows(category) if row.key == key), None)

    def visits(self, category: Category, key: str) -> list[Visit]:
        """Every visit of a subject, oldest first."""
        query = f"{_VISITS} WHERE category = ? AND key = ? ORDER BY v.id"
        return [_visit(values) for values in self._rows(query, category, key)]

    def all_visits(self, category: Category) -> dict[tuple[Category, str], list[Visit]]:
        """Every visit of every subject of a category, by category and key, oldest first."""
        found: dict[tuple[Category, str], list[Visit]] = {}
        for values in self._rows(f"{_VISITS} WHERE category = ? ORDER BY v.id", category):
            found.setdefault((category, values[-1]), []).append(_visit(values))
        return found

    def last_process(self) -> int:
        """The highest process number that any visit carries; 0 in an empty table."""
        return int(self._rows("SELECT coalesce(max(process), 0) FROM visits")[0][0])

    def runs(self) -> list[dict[str, Any]]:
        """The profiling runs that filled this table, oldest first."""
        found = self._rows("SELECT started, document FROM runs ORDER BY id")
        return [{"started": started, **json.loads(document)} for started, document in found]

    def op_latencies(self) -> dict[str, float]:
        """Milliseconds by op key, for every op that was measured."""
        rows = self.rows("op")
        return {row.key: row.measurement.latency_ms for row in rows if row.measurement}

    def device_latencies(self) -> dict[str, float]:
        """Milliseconds that the device alone needs, by op key, where that was measured."""
        return {
            row.key: row.measurement.device_ms
            for row in self.rows("op")
            if row.measurement and row.measurement.device_ms is not None
        }

    def to_frame(self, category: Category | None = None) -> pandas.DataFrame:
        """The table as pandas: one row per subject; failures have a message and no numbers."""
        import pandas

        return pandas.DataFrame(
            [row_record(row) for row in self.rows(category)], columns=list(_FRAME_COLUMNS)
        )

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        with mapped(self.path):
            return self._connection.execute(query, parameters).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with mapped(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:  # a full disk has already rolled back
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def row_record(row: Row) -> dict[str, Any]:
    """A row as a flat record with the column names of `LatencyTable.to_frame`."""
    record: dict[str, Any] = dict.fromkeys(_FRAME_COLUMNS)
    record.update(category=row.category, key=row.key, status=row.status, flags="")
    if row.nodes is not None:
        record["nodes"], record["delegated_nodes"] = row.nodes
    if row.measurement is not None:
        for name in _FRAME_COLUMNS[3:15]:
            record[name] = getattr(row.measurement, name)
        record["flags"] = ",".join(row.measurement.flags)
    elif row.failure is not None:
        record["failure"] = f"{row.failure.kind}: {row.failure.message}"
    return record


def _subject_id(connection: sqlite3.Connection, category: Category, key: str, role: str) -> int:
    connection.execute(
        "INSERT INTO subjects (category, key, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (category, key, role),
    )
    query = "SELECT id FROM subjects WHERE category = ? AND key = ?"
    return int(connection.execute(query, (category, key)).fetchone()[0])


def _put_measurement(connection: sqlite3.Connection, subject: int, value: Measurement) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            subject,
            value.latency_ms,
            value.ci_low_ms,
            value.ci_high_ms,
            value.median_ms,
            value.minimum_ms,
            value.rounds,
            value.processes,
            value.drift,
            ",".join(value.flags),
            value.status,
            value.clock_mhz,
            value.device_ms,
        ),
    )


def _row(values: tuple[Any, ...]) -> Row:
    category, key = values[:2]
    measured, failed, device, nodes = values[2:12], values[12:16], values[16:18], values[18:]
    measurement = None
    if measured[0] is not None:
        measurement = Measurement(*(*measured[:8], _flags(measured[8]), measured[9], *device))
    failure = None
    if failed[0] is not None and measurement is None:
        failure = Failure(failed[0], failed[1], bool(failed[2]), failed[3])
    return Row(category, key, measurement, failure, None if nodes[0] is None else nodes)


def _visit(values: tuple[Any, ...]) -> Visit:
    try:
        references = tuple(float(value) for value in json.loads(values[10] or "[]"))
    except (TypeError, ValueError, RecursionError) as error:
        raise NotATableError("the table is damaged: a visit's references are no numbers") from error
    return Visit(*(*values[:9], _flags(values[9]), references, *values[11:13]))


def _flags(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
