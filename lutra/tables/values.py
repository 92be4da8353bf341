"""What a table's numbers can be: a file may hold what the schema allows and nothing can compute."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from lutra.errors import NotATableError
from lutra.tables.measurement import LEAST_MS, MOST_MS

Limits = tuple[float, float]

_MS: Limits = (LEAST_MS, MOST_MS)
_NUMBER: Limits = (0, 2**31 - 1)
_SHARE: Limits = (-1e6, 1e6)
_CLOCK: Limits = (1e-9, 1e9)
_MEASURED = {
    **dict.fromkeys(("median_ms", "minimum_ms", "device_ms"), _MS),
    "drift": _SHARE,
    "clock_mhz": _CLOCK,
}
# Where the schema allows NULL. Elsewhere it stands for a stored NaN, which SQLite reads so.
_OPTIONAL = {
    *("device_ms", "clock_mhz", "waited_share", "stolen_share", "others_cores"),
    *("preemptions", "page_faults", "nodes", "delegated_nodes", "runs", "std_ms"),
}
# By table and column, or what SQLite computes of columns.
_LIMITS: Mapping[str, Mapping[str, Limits]] = {
    "visits": {
        "low_ms": _MS,
        **_MEASURED,
        **dict.fromkeys(("round", "process", "run", "blocks", "runs_per_block"), _NUMBER),
        **dict.fromkeys(("waited_share", "stolen_share", "others_cores"), _SHARE),
        **dict.fromkeys(("preemptions", "page_faults", "timed_seconds"), (0, 1e15)),
    },
    "measurements": {
        **dict.fromkeys(("latency_ms", "ci_low_ms", "ci_high_ms"), _MS),
        **_MEASURED,
        **dict.fromkeys(("rounds", "processes"), _NUMBER),
    },
    "failures": {"transient": (0, 1), "attempts": _NUMBER},
    "imported": {
        **dict.fromkeys(("latency_ms", "std_ms"), (0, MOST_MS)),
        "resolution": (1, 1 << 16),
        "runs": _NUMBER,
    },
    "filled": {**dict.fromkeys(("latency_ms", "low_ms", "high_ms"), _MS), "rows": _NUMBER},
    "subjects": {
        **dict.fromkeys(("nodes", "delegated_nodes"), _NUMBER),
        "(nodes IS NULL) - (delegated_nodes IS NULL)": (0, 0),
    },
}


def check_values(path: Path, connection: sqlite3.Connection) -> None:
    """Raise `NotATableError` for a number that cannot have been measured or counted."""
    for table, limits in _LIMITS.items():
        extremes = ", ".join(
            f"min({name}), max({name}), count(*) - count({name})" for name in limits
        )
        query = f"SELECT {extremes} FROM {table}"  # noqa: S608 (names of our own)
        found = connection.execute(query).fetchone()
        for (name, (low, high)), least, most, missing in zip(
            limits.items(), found[::3], found[1::3], found[2::3], strict=True
        ):
            if missing and name not in _OPTIONAL:
                raise NotATableError(f"{path} is damaged: {name} is no number in its {table}")
            if least is not None and not low <= least <= most <= high:
                wrong = most if low <= least else least
                raise NotATableError(f"{path} is damaged: {name} is {wrong} in its {table}")
