"""The table file's schema, its version and its migrations.

A latency table is one SQLite file with our application id and a schema version in
``PRAGMA user_version``. Each migration is one step from version n to n + 1; a new one is added at
the end of `MIGRATIONS`, and none is ever edited.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from lutra.tables.transaction import transaction

APPLICATION_ID = 0x4C555452  # "LUTR"

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL                -- JSON
    ) STRICT;
    CREATE TABLE subjects (                -- what can be measured
        id INTEGER PRIMARY KEY,
        category TEXT NOT NULL CHECK (category IN ('op', 'network', 'reference')),
        key TEXT NOT NULL,
        role TEXT NOT NULL DEFAULT '',     -- networks: calibrate, validate, verify
        UNIQUE (category, key)
    ) STRICT;
    CREATE TABLE visits (                  -- every stay at a subject, as it arrived
        id INTEGER PRIMARY KEY,
        subject INTEGER NOT NULL REFERENCES subjects (id),
        round INTEGER NOT NULL,
        process INTEGER NOT NULL,
        low_ms REAL NOT NULL CHECK (low_ms > 0),
        median_ms REAL NOT NULL CHECK (median_ms > 0),
        minimum_ms REAL NOT NULL CHECK (minimum_ms > 0),
        blocks INTEGER NOT NULL,
        runs_per_block INTEGER NOT NULL,
        timed_seconds REAL NOT NULL,
        drift REAL NOT NULL,
        flags TEXT NOT NULL,
        at TEXT NOT NULL                   -- UTC, ISO 8601
    ) STRICT;
    CREATE INDEX visits_by_subject ON visits (subject);
    CREATE TABLE measurements (            -- what the visits add up to
        subject INTEGER PRIMARY KEY REFERENCES subjects (id),
        latency_ms REAL NOT NULL CHECK (latency_ms > 0),
        ci_low_ms REAL NOT NULL,
        ci_high_ms REAL NOT NULL,
        median_ms REAL NOT NULL,
        minimum_ms REAL NOT NULL,
        rounds INTEGER NOT NULL,
        processes INTEGER NOT NULL,
        drift REAL NOT NULL,
        flags TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('stable', 'unstable', 'partial'))
    ) STRICT;
    CREATE TABLE failures (
        subject INTEGER PRIMARY KEY REFERENCES subjects (id),
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        transient INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE runs (                    -- provenance: one row per profiling run
        id INTEGER PRIMARY KEY,
        started TEXT NOT NULL,
        document TEXT NOT NULL             -- JSON: command, version, seed, seconds
    ) STRICT;
    """,
    """
    ALTER TABLE subjects ADD COLUMN nodes INTEGER;            -- operators of the model
    ALTER TABLE subjects ADD COLUMN delegated_nodes INTEGER;  -- those that the delegate took
    ALTER TABLE visits ADD COLUMN reference_ms TEXT NOT NULL DEFAULT '';  -- not used any more
    """,
    """
    ALTER TABLE visits ADD COLUMN clock_mhz REAL;  -- the device's clock meanwhile, where known
    ALTER TABLE visits ADD COLUMN device_ms REAL;  -- without the host that launches the work
    ALTER TABLE measurements ADD COLUMN clock_mhz REAL;
    ALTER TABLE measurements ADD COLUMN device_ms REAL;
    """,
    """
    ALTER TABLE visits ADD COLUMN waited_share REAL;    -- of the time: another process had the core
    ALTER TABLE visits ADD COLUMN stolen_share REAL;    -- of the time: another machine had it
    ALTER TABLE visits ADD COLUMN preemptions INTEGER;  -- involuntary context switches
    ALTER TABLE visits ADD COLUMN page_faults INTEGER;
    ALTER TABLE visits ADD COLUMN others_cores REAL;    -- cores that other processes kept busy
    """,
    """
    ALTER TABLE visits ADD COLUMN run INTEGER NOT NULL DEFAULT 0;  -- what shares its rounds
    """,
    """
    CREATE TABLE imported (                -- what the files of others say: no visits, no interval
        subject INTEGER NOT NULL REFERENCES subjects (id),
        resolution INTEGER NOT NULL,       -- pixels: the networks that the number is of
        latency_ms REAL NOT NULL,          -- 0: a part of another entry, or not counted by theirs
        runs INTEGER,                      -- how many the file says, where it does
        std_ms REAL,                       -- the standard deviation that it says of them
        entry TEXT NOT NULL,               -- the file's own key
        file TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (subject, resolution)
    ) STRICT;
    """,
    """
    CREATE TABLE filled (                  -- ops that were not measured: told from other rows
        subject INTEGER PRIMARY KEY REFERENCES subjects (id),
        latency_ms REAL NOT NULL CHECK (latency_ms > 0),
        low_ms REAL NOT NULL,
        high_ms REAL NOT NULL,
        rows INTEGER NOT NULL              -- how many they were
    ) STRICT;
    """,
)
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a table of an older schema, or an empty one, up to date; all of it or nothing.

    What counts is the version once it is our turn: another process may have done it meanwhile.
    """
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for statement in _statements("".join(MIGRATIONS[version:])):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, each of which begins on a line of its own."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
