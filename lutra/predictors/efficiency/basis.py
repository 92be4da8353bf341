"""What a prediction's interval rests on: how surely each row was measured, and the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.composition import Floats
from lutra.spaces import SearchSpace
from lutra.tables import Measurement
from lutra.tables.measurement import Filled


@dataclass(frozen=True)
class RowShare:
    """A row that a network's prediction rests on.

    ``latency_ms`` is what the table has, within ``half_width_percent`` (95 %) by so many
    ``visits``, none where it was filled in. ``share`` is of the square of the prediction's
    interval, None where it has none.
    """

    key: str
    latency_ms: float
    half_width_percent: float
    visits: int
    share: float | None

    @property
    def filled(self) -> bool:
        """Whether the row was filled in, not measured."""
        return self.visits == 0


@dataclass(frozen=True)
class Basis:
    """The ``rows`` of a network, those first whose errors weigh most in its prediction.

    All of them together make the prediction uncertain by ``rows_percent`` (95 %, their errors taken
    to be independent). ``rest_share`` is the share of the interval's square that no row explains:
    what adding ops up does not know, and how processes differ. None where there is no interval.
    """

    rows: tuple[RowShare, ...]
    rows_percent: float
    rest_share: float | None

    def top(self, count: int) -> Basis:
        """The same with the first ``count`` rows alone."""
        return replace(self, rows=self.rows[:count])

    @property
    def too_narrow(self) -> bool:
        """Whether the rows alone leave the prediction less sure than its interval says."""
        return self.rest_share == 0.0


class KnownRow(NamedTuple):
    """What a table has for an op, how surely (relative half width of 95 %), by how many visits."""

    latency_ms: float
    half_width: float
    visits: int


class RowErrors:
    """How surely a table knows the ops of a space: by what it ``measured`` or ``filled`` in."""

    def __init__(
        self,
        space: SearchSpace,
        measured: Mapping[str, Measurement],
        filled: Mapping[str, Filled],
    ) -> None:
        self._space = space
        self._known = {
            key: KnownRow(each.latency_ms, each.high_ms / each.latency_ms - 1.0, 0)
            for key, each in filled.items()
        } | {
            key: KnownRow(each.latency_ms, each.half_width, each.rounds)
            for key, each in measured.items()
        }

    def basis(
        self,
        indices: npt.NDArray[np.int32],
        parts_ms: Floats,
        latency_ms: float,
        interval_percent: float | None,
    ) -> Basis | None:
        """What a network's prediction rests on; None where its rows have no intervals.

        ``indices`` are its ops', and ``parts_ms`` (ops of the space,) what an op's own latency adds
        to the network: an error of the row is the same one wherever the op is used.
        """
        percents: dict[str, float] = {}
        for index in indices:
            key = self._space.ops[index].key
            if key not in self._known:
                return None
            part = abs(float(parts_ms[index])) / latency_ms
            percents[key] = percents.get(key, 0.0) + part * self._percent(key)
        rows_percent = math.hypot(*percents.values())
        whole = max(rows_percent, interval_percent or 0.0)
        known = interval_percent is not None and whole > 0.0
        rows = [
            self._row(key, (percent / whole) ** 2 if known else None)
            for key, percent in sorted(percents.items(), key=lambda item: -item[1])
        ]
        rest = 1.0 - (rows_percent / whole) ** 2 if known else None
        return Basis(tuple(rows), rows_percent, rest)

    def _percent(self, key: str) -> float:
        return 100.0 * self._known[key].half_width

    def _row(self, key: str, share: float | None) -> RowShare:
        known = self._known[key]
        return RowShare(key, known.latency_ms, self._percent(key), known.visits, share)
