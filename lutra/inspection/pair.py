"""What two tables both measured, row by row, with how sure each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lutra.inspection.changes import (
    ENOUGH,
    Change,
    Floats,
    StateRange,
    change,
    common_error,
    relative_error,
    state_range,
    verdicts,
)
from lutra.profiler.statistics import process_spread
from lutra.tables import LatencyTable, Measurement
from lutra.tables.measurement import Category
from lutra.tables.states import fit_state, visits_in_one_state

_SPREAD_ROWS = 100  # that tell how processes differ

Measured = Mapping[str, Measurement]


@dataclass(frozen=True)
class Pair:
    """The measurements of a category in both tables, of what both measured."""

    category: Category
    a: Measured
    b: Measured
    spread: tuple[float, float]  # of processes

    @classmethod
    def read(cls, a: LatencyTable, b: LatencyTable, category: Category) -> Pair:
        mine, theirs = (_measured(table, category) for table in (a, b))
        shared = [key for key in mine if key in theirs]
        few = shared[:: max(1, len(shared) // _SPREAD_ROWS)]
        visits = [visits_in_one_state(table, category) for table in (a, b)]
        spread = [process_spread(seen.get(key, ()) for key in few) for seen in visits]
        return cls(category, mine, theirs, (spread[0], spread[1]))

    @property
    def keys(self) -> list[str]:
        return [key for key in self.a if key in self.b]

    def latencies(self, keys: Sequence[str]) -> tuple[Floats, Floats]:
        """(N,) ms in either table."""
        a, b = ([table[key].latency_ms for key in keys] for table in (self.a, self.b))
        return np.array(a), np.array(b)

    def errors(self, keys: Sequence[str]) -> tuple[Floats, Floats]:
        """(N,) relative standard errors in either table."""
        a, b = (
            [relative_error(table[key], spread) for key in keys]
            for table, spread in zip((self.a, self.b), self.spread, strict=True)
        )
        return np.array(a), np.array(b)

    def device_ms(self, key: str) -> tuple[float, float] | None:
        """What the device alone needed in either table; None where not both tell."""
        a, b = self.a[key].device_ms, self.b[key].device_ms
        return None if a is None or b is None else (a, b)

    def is_flagged(self, key: str) -> bool:
        """Whether something was wrong with either: the interval says too little."""
        return bool(self.a[key].flags or self.b[key].flags)

    def changes(self, state: float | None) -> tuple[list[Change], StateRange | None]:
        """The change of each key, and what the machine's state may have done to them."""
        keys = self.keys
        (a, b), (error_a, error_b) = self.latencies(keys), self.errors(keys)
        logs, errors = np.log(b / a), np.hypot(error_a, error_b)
        steady = np.array([not self.is_flagged(key) for key in keys], dtype=bool)
        in_common = self._in_common(a[steady], b[steady])
        by_state = state_range(in_common, state)
        common = common_error(logs[steady] - in_common, errors[steady])
        words = iter(verdicts(logs[steady], errors[steady], by_state, common))
        rows = zip(a.tolist(), b.tolist(), errors.tolist(), steady.tolist(), strict=True)
        return [
            change(a_ms, b_ms, error, next(words) if good else "flagged")
            for a_ms, b_ms, error, good in rows
        ], by_state

    def _in_common(self, a_ms: Floats, b_ms: Floats) -> Floats:
        """(N,): the logarithm of what each changed by if all did alike, as states have it.

        Ops by a scale, networks by a scale and a constant; zeros where too few tell.
        """
        if len(a_ms) < ENOUGH:
            return np.zeros(len(a_ms))
        if self.category == "op":
            return np.full(len(a_ms), np.median(np.log(b_ms / a_ms)))
        state = fit_state(a_ms, b_ms, constant=True)
        return np.array([-np.log(state.factor(value)) for value in b_ms])


def _measured(table: LatencyTable, category: Category) -> dict[str, Measurement]:
    return {row.key: row.measurement for row in table.rows(category) if row.measurement}
