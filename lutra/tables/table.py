"""The latency table: one SQLite file that people share, diff and commit."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lutra.errors import NotATableError, TableWriteError
from lutra.files import parse_json
from lutra.files.kinds import is_there
from lutra.files.locks import Lock
from lutra.tables.columns import from_columns, insert, insert_all, subject_id, to_columns
from lutra.tables.connection import (
    add_file_lock,
    create_file,
    mapped,
    open_file,
    stat_of,
    write_lock,
)
from lutra.tables.frame import FRAME_COLUMNS, row_record
from lutra.tables.measurement import (
    REPLACED,
    SUPERSEDED,
    Category,
    Failure,
    Filled,
    Imported,
    Measurement,
    Row,
    Steady,
    Visit,
)
from lutra.tables.queries import ROWS, STEADY, VISITS, row_of
from lutra.tables.target import Target
from lutra.tables.transaction import transaction
from lutra.tables.union import append

if TYPE_CHECKING:
    import pandas


class LatencyTable:
    """One target, many workloads; every visit is committed when it is recorded.

    Open one with `open` or `create`, whose errors are `TableError`; it is a context manager.
    Latencies are in ms per run. While a table is open for writing, SQLite keeps a ``-wal`` file
    beside it; closing folds that in again, and after a kill the next opening does.

    >>> with LatencyTable.open("cpu.lut") as table:
    ...     latencies = table.op_latencies()  # ms by op key
    ...     frame = table.to_frame()  # a row per workload: ops, networks, references
    >>> len(latencies), min(latencies.values()) > 0
    (96, True)
    >>> list(frame[frame.category == "op"].latency_ms) == list(latencies.values())
    True
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Lock | None) -> None:
        """``lock`` is the right to write it (`write_lock`); None to read."""
        self.path = path
        connection.row_factory = sqlite3.Row
        self._connection = connection
        self._lock = lock

    @classmethod
    def create(cls, path: str | Path, target: Target) -> LatencyTable:
        """A new, empty table for a target.

        Raises `TableWriteError` if the file exists or another process is making it.
        """
        path = Path(path)
        with write_lock(path) as lock:
            if is_there(path):
                raise TableWriteError(f"{path} already exists")
            create_file(path, target.to_json())
            return cls._open(path, lock.pop_all())

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False) -> LatencyTable:
        """An existing table.

        Raises `NotATableError` (missing, another kind of file, damaged), `TableVersionError`
        (newer schema) or, to write, `TableWriteError` (read-only, or another process writes it).
        """
        path = Path(path)
        stat_of(path)
        return cls._open(path, write_lock(path) if write else None)

    @classmethod
    def _open(cls, path: Path, lock: Lock | None) -> LatencyTable:
        with contextlib.ExitStack() as opened:
            if lock is not None:
                opened.enter_context(lock)
                add_file_lock(path, lock)
            table = cls(path, open_file(path, write=lock is not None), lock)
            opened.callback(table.close)
            if lock is not None:
                table._keep_a_log()
            _ = table.target
            opened.pop_all()
        return table

    def _keep_a_log(self) -> None:
        with mapped(self.path):
            # docs/decisions.md: One file afterwards
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Fold the write-ahead log into the one file and close it; safe to call twice."""
        if self._lock is not None:
            with contextlib.suppress(sqlite3.Error):  # another reader: the next closing does it
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

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
        document = self.meta("target")
        try:
            return Target.from_json(document)
        except NotATableError as error:
            raise NotATableError(f"{self.path}: its target is damaged: {error}") from error

    def meta(self, name: str) -> Any:
        """A stored JSON document (``target``, ``space``, ``calibration``...), or None."""
        found = self._rows("SELECT value FROM meta WHERE name = :name", name=name)
        return self._document(found[0]["value"], name) if found else None

    def _document(self, text: str, name: str) -> Any:
        try:
            return parse_json(text)
        except ValueError as error:
            raise NotATableError(f"{self.path} is damaged: {name} is not JSON") from error

    def put_meta(self, name: str, document: Any) -> None:
        """Store a JSON document under a name, replacing what was there."""
        with self._transaction() as connection:
            insert(connection, "meta", {"name": name, "value": json.dumps(document)}, replace=True)

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
        """Commit a visit and the measurement it now adds up to.

        A past failure is withdrawn, and what was filled in.

        Returns the visit's number, for `flag_visit`.
        """
        with self._transaction() as connection:
            subject = subject_id(connection, category, key, role)
            if nodes is not None:
                connection.execute(
                    "UPDATE subjects SET nodes = ?, delegated_nodes = ? WHERE id = ?",
                    (*nodes, subject),
                )
            values = {"subject": subject, **to_columns(visit), "at": _now()}
            number = insert(connection, "visits", values)
            for other in ("failures", "filled"):
                connection.execute(f"DELETE FROM {other} WHERE subject = ?", (subject,))  # noqa: S608
            _put_measurement(connection, subject, measurement)
        return number

    def flag_visit(
        self, number: int, visit: Visit, category: Category, key: str, measurement: Measurement
    ) -> None:
        """Commit what became known of a visit later (its drift and flags), and the new sum."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE visits SET drift = :drift, flags = :flags WHERE id = :id",
                {**to_columns(visit), "id": number},
            )
            _put_measurement(connection, subject_id(connection, category, key, ""), measurement)

    def record_failure(
        self, category: Category, key: str, failure: Failure, role: str = ""
    ) -> None:
        """Commit that a workload failed; one that has a measurement keeps that too."""
        with self._transaction() as connection:
            subject = subject_id(connection, category, key, role)
            values = {"subject": subject, **to_columns(failure), "at": _now()}
            insert(connection, "failures", values, replace=True)

    def record_measurements(self, measurements: Mapping[tuple[Category, str], Measurement]) -> None:
        """Replace what workloads' visits add up to: their correction, flags or status changed."""
        with self._transaction() as connection:
            for (category, key), measurement in measurements.items():
                subject = subject_id(connection, category, key, "")
                _put_measurement(connection, subject, measurement)

    def replace_visits(self, workloads: Iterable[tuple[Category, str]]) -> None:
        """Have workloads measured again: their visits stay, flagged to give way to others.

        Those that gave way before count no more. A failure is withdrawn.
        """
        with self._transaction() as connection:
            for category, key in workloads:
                subject = subject_id(connection, category, key, "")
                values = {"subject": subject, "flag": REPLACED, "older": SUPERSEDED}
                connection.execute(
                    "UPDATE visits SET flags = flags || ',' || :older WHERE subject = :subject"
                    " AND instr(flags, :flag) > 0 AND instr(flags, :older) = 0 AND EXISTS"
                    " (SELECT 1 FROM visits WHERE subject = :subject AND instr(flags, :flag) = 0)",
                    values,
                )
                connection.execute(
                    "UPDATE visits SET flags = ltrim(flags || ',' || :flag, ',')"
                    " WHERE subject = :subject AND instr(flags, :flag) = 0",
                    values,
                )
                connection.execute(
                    "UPDATE measurements SET status = 'partial' WHERE subject = ?", (subject,)
                )
                connection.execute("DELETE FROM failures WHERE subject = ?", (subject,))

    def record_imports(
        self, imports: Iterable[tuple[str, Imported]], category: Category = "op"
    ) -> None:
        """Commit what a file of others says of workloads, by their keys: all of it or nothing."""
        with self._transaction() as connection:
            insert_all(connection, "imported", category, imports)

    def fill(self, filled: Mapping[str, Filled]) -> None:
        """Commit what ops that were not measured would take, by key, in place of all before."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM filled")
            insert_all(connection, "filled", "op", filled.items())

    def append(self, other: LatencyTable) -> list[int]:
        """Append another table's visits, failures and runs; what number each run has here."""
        with self._transaction() as connection, mapped(other.path):
            return append(connection, other._connection)

    def record_run(self, document: Mapping[str, Any]) -> None:
        """Keep what a profiling run was: command, version, seed, seconds."""
        with self._transaction() as connection:
            insert(connection, "runs", {"started": _now(), "document": json.dumps(document)})

    # reading

    def rows(self, category: Category | None = None, role: str | None = None) -> list[Row]:
        """Every workload with its measurement or failure, in the order they were first measured."""
        return [row_of(values) for values in self._rows(ROWS, category=category, role=role)]

    def row(self, category: Category, key: str) -> Row | None:
        """One workload, or None if it was never tried."""
        return next((row for row in self.rows(category) if row.key == key), None)

    def visits(self, category: Category, key: str) -> list[Visit]:
        """Every visit of a workload, oldest first."""
        query = f"{VISITS} WHERE s.category = :category AND s.key = :key ORDER BY v.id"
        found = self._rows(query, category=category, key=key)
        return [from_columns(Visit, values) for values in found]

    def all_visits(self, category: Category) -> dict[tuple[Category, str], list[Visit]]:
        """Every visit of every workload of a category, by category and key, oldest first."""
        found: dict[tuple[Category, str], list[Visit]] = {}
        query = f"{VISITS} WHERE s.category = :category ORDER BY v.id"
        for values in self._rows(query, category=category):
            visits = found.setdefault((category, values["key"]), [])
            visits.append(from_columns(Visit, values))
        return found

    def steady_ms(self, category: Category, but: str | None = None) -> dict[str, list[Steady]]:
        """Rounds and latencies of visits without a flag but `REPLACED`, by key; ``but`` a role."""
        found: dict[str, list[Steady]] = {}
        for values in self._rows(STEADY, category=category, replaced=REPLACED, but=but):
            key, run, process, number, low_ms, steady = values
            seen = found.setdefault(key, [])
            if steady:
                seen.append(((run, process, number), low_ms))
        return found

    def last_visits(self) -> dict[tuple[Category, str], str]:
        """When each workload was last visited (UTC, ISO 8601), by category and key."""
        found = self._rows(
            "SELECT s.category, s.key, max(v.at) AS at"
            " FROM visits v JOIN subjects s ON s.id = v.subject GROUP BY s.id"
        )
        return {(values["category"], values["key"]): values["at"] for values in found}

    def last_process(self) -> int:
        """The highest process number that any visit carries; 0 in an empty table."""
        return int(self._rows("SELECT coalesce(max(process), 0) FROM visits")[0][0])

    def last_run(self) -> int:
        """The highest number of a run that any visit carries; 0 in an empty table."""
        return int(self._rows("SELECT coalesce(max(run), 0) FROM visits")[0][0])

    def visit_marks(self) -> set[tuple[str, float]]:
        """What tells each visit from those of another table: when it was, and its latency."""
        return {
            (values["at"], values["low_ms"])
            for values in self._rows("SELECT at, low_ms FROM visits")
        }

    def run_starts(self) -> dict[int, str]:
        """When each run's first visit was (UTC, ISO 8601), by the run's number."""
        found = self._rows("SELECT run, min(at) AS at FROM visits GROUP BY run ORDER BY run")
        return {values["run"]: values["at"] for values in found}

    def runs(self) -> list[dict[str, Any]]:
        """The profiling runs that filled this table, oldest first."""
        found = self._rows("SELECT started, document FROM runs ORDER BY id")
        runs = [(row["started"], self._document(row["document"], "a run")) for row in found]
        if not all(isinstance(document, dict) for _, document in runs):
            raise NotATableError(f"{self.path} is damaged: a run is no JSON object")
        return [{"started": started, **document} for started, document in runs]

    def op_latencies(self) -> dict[str, float]:
        """Milliseconds by op key, for every op that was measured."""
        rows = self.rows("op")
        return {row.key: row.measurement.latency_ms for row in rows if row.measurement}

    def imported_latencies(self) -> dict[tuple[str, int], float]:
        """Milliseconds by op key and resolution, for every op that was imported."""
        found = [(row.key, row.imported) for row in self.rows("op") if row.imported]
        return {(key, imported.resolution): imported.latency_ms for key, imported in found}

    def filled(self) -> dict[str, Filled]:
        """What was filled in, by op key."""
        return {row.key: row.filled for row in self.rows("op") if row.filled}

    def device_latencies(self) -> dict[str, float]:
        """Milliseconds that the device alone needs, by op key, where that was measured."""
        return {
            row.key: row.measurement.device_ms
            for row in self.rows("op")
            if row.measurement and row.measurement.device_ms is not None
        }

    def to_frame(self, category: Category | None = None) -> pandas.DataFrame:
        """The table as pandas: one row per workload; failures have a message and no numbers.

        (But for partial rows, which may have both: `Row`.)
        """
        import pandas

        return pandas.DataFrame(
            [row_record(row) for row in self.rows(category)], columns=list(FRAME_COLUMNS)
        )

    def _rows(self, query: str, **parameters: Any) -> list[sqlite3.Row]:
        with mapped(self.path):
            return self._connection.execute(query, parameters).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with mapped(self.path), transaction(self._connection):
            yield self._connection


@contextlib.contextmanager
def opened_table(
    table: str | Path | LatencyTable, *, write: bool = False
) -> Iterator[LatencyTable]:
    """The table in a file, closed at the end; one that is open stays open."""
    if isinstance(table, LatencyTable):
        yield table
        return
    with LatencyTable.open(table, write=write) as named:
        yield named


def _put_measurement(connection: sqlite3.Connection, subject: int, value: Measurement) -> None:
    insert(connection, "measurements", {"subject": subject, **to_columns(value)}, replace=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
