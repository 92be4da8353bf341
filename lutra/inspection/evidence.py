"""A table's ops as arrays: what the rules look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import UsageError
from lutra.inspection.neighbourhood import features_of, locally_expected, pace_fit
from lutra.ops import OpConfig, parse_key
from lutra.tables import LatencyTable, Row, Target

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ENOUGH_OPS = 24  # of one kind: fewer tell nothing of each other


class Value(NamedTuple):
    """A row's latency in ms; ``resolution`` is 0 where the row is good for all of them.

    ``is_part`` says that a format counts the op within another row, or not at all.
    """

    op: OpConfig
    resolution: int
    latency_ms: float
    is_part: bool = False


@dataclass(frozen=True)
class Evidence:
    """The rows of a table's ops; those whose keys this version does not know are ``foreign``.

    ``documents`` are the table's calibrations and validations that are stale, as words.
    """

    target: Target
    rows: Sequence[Row]
    values: Sequence[Value]
    foreign: Sequence[str]
    stale: Sequence[str]

    @cached_property
    def ops(self) -> Sequence[OpConfig]:
        """The op of each of ``values``."""
        return [value.op for value in self.values]

    @cached_property
    def latencies_ms(self) -> Floats:
        """(values,): as they stand in the table; 0 for parts of other rows."""
        return np.array([value.latency_ms for value in self.values], dtype=np.float64)

    @cached_property
    def macs(self) -> Floats:
        """(values,): of the whole batch."""
        batch = max(self.target.batch, 1)
        return batch * np.array([op.macs for op in self.ops], dtype=np.float64)

    def keys(self, where: Mask) -> list[str]:
        """The keys of some of ``values``, with the resolution where a row is of one."""
        chosen = (self.values[index] for index in np.flatnonzero(where))
        return [f"{v.op.key} at {v.resolution}" if v.resolution else v.op.key for v in chosen]

    @cached_property
    def kinds(self) -> Sequence[Neighbours]:
        """The kinds of which there are enough ops to tell what one of them should take."""
        names = np.array([op.kind for op in self.ops])
        found = []
        for name in np.unique(names):
            where = np.flatnonzero((names == name) & (self.latencies_ms > 0) & (self.macs > 0))
            ops = [self.ops[index] for index in where]
            if len(set(ops)) >= ENOUGH_OPS:
                found.append(Neighbours.of(where, ops, np.log(self.latencies_ms[where])))
        return found


@dataclass(frozen=True)
class Neighbours:
    """Rows of ops of one kind, by their places among a table's values, and what fits say of them.

    ``apart`` (rows,) is the logarithm of what a row takes over what a fit of all expects of it,
    ``from_neighbours`` over what the ops most like it take.
    """

    where: npt.NDArray[np.intp]
    ops: Sequence[OpConfig]
    features: Floats
    logarithms: Floats
    apart: Floats
    from_neighbours: Floats

    @classmethod
    def of(
        cls, where: npt.NDArray[np.intp], ops: Sequence[OpConfig], logarithms: Floats
    ) -> Neighbours:
        """Fit the logarithms of latencies in ms (rows,)."""
        features = features_of(ops)
        apart = logarithms - pace_fit(features, logarithms)
        expected = locally_expected(ops, features, apart)
        return cls(where, ops, features, logarithms, apart, apart - expected)


def gather(table: LatencyTable, stale: Sequence[str]) -> Evidence:
    """Read a table's ops."""
    rows = table.rows("op")
    values, foreign = [], []
    known: dict[str, OpConfig | None] = {}
    for row in rows:
        if row.key not in known:
            known[row.key] = _op_of(row.key)
        op = known[row.key]
        if op is None:
            foreign.append(row.key)
        elif row.imported is not None:
            said = row.imported
            values.append(Value(op, said.resolution, said.latency_ms, said.entry == ""))
        elif row.measurement is not None:
            values.append(Value(op, 0, row.measurement.latency_ms))
    return Evidence(table.target, rows, values, foreign, stale)


def _op_of(key: str) -> OpConfig | None:
    try:
        return parse_key(key)
    except UsageError:
        return None
