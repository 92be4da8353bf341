"""What a report says of one table, read once: its ops, its networks and what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lutra.errors import LutraError, UsageError
from lutra.ops import OpConfig, parse_key
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.report.figures.drawing import interval_text, ms
from lutra.spaces import Architecture
from lutra.tables import LatencyTable, Row, Target, Visit, opened_table
from lutra.tables.documents import CALIBRATION, VALIDATION, read_document
from lutra.tables.measurement import (
    CALIBRATE,
    VALIDATE,
    VERIFY,
    Category,
    Measurement,
    is_architecture,
)
from lutra.tables.profiled import Profiled, read_profiled

ROLES = {VALIDATE: "fresh", VERIFY: "found by searches", CALIBRATE: "fitted on"}
"""Why a network was measured, and what that is called: the first is what an error is of."""


class Op(NamedTuple):
    """An op that the table has a latency of; the interval is None where it is not known.

    ``text`` is all that its row says.
    """

    config: OpConfig
    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    text: str


class Network(NamedTuple):
    """A whole network that was measured, with what the table predicts of it as it is now, in ms."""

    architecture: Architecture
    role: str
    measured: Measurement
    predicted_ms: float
    low_ms: float | None
    high_ms: float | None

    @property
    def error_percent(self) -> float:
        """How much slower than measured it is predicted to be."""
        return 100.0 * (self.predicted_ms / self.measured.latency_ms - 1.0)

    @property
    def text(self) -> str:
        """What a mark for it says."""
        return (
            f"{self.architecture.key}\nmeasured {ms(self.measured.latency_ms)},"
            f" {interval_text(self.measured.ci_low_ms, self.measured.ci_high_ms)};"
            f" {ROLES[self.role]}\npredicted {ms(self.predicted_ms)},"
            f" {interval_text(self.low_ms, self.high_ms)}; {self.error_percent:+.1f} % off"
        )


Visits = dict[tuple[Category, str], list[Visit]]


@dataclass(frozen=True)
class Content:
    """All that figures and summary need of a table, which is closed by then.

    ``predictors`` and ``documents`` (calibration and validation) are by the space's name,
    ``problems`` what could not be read.
    """

    path: Path
    target: Target
    profiled: Profiled
    rows: Sequence[Row]
    visits: Visits
    roles: dict[str, str]
    runs: Sequence[dict[str, Any]]
    predictors: dict[str, EfficiencyPredictor]
    documents: dict[str, dict[str, dict[str, Any]]]
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, table: LatencyTable | str | Path) -> Content:
        """Read a table; raises `TableError`."""
        with opened_table(table) as opened:
            profiled = read_profiled(opened)
            predictors, problems = _predictors(opened, profiled)
            categories: tuple[Category, ...] = ("op", "network", "reference")
            visits: Visits = {}
            for category in categories:
                visits |= opened.all_visits(category)
            return cls(
                path=opened.path,
                target=opened.target,
                profiled=profiled,
                rows=opened.rows(),
                visits=visits,
                roles={row.key: role for role in ROLES for row in opened.rows("network", role)},
                runs=opened.runs(),
                predictors=predictors,
                documents={
                    name: {
                        kind: read_document(opened, kind, name) or {}
                        for kind in (CALIBRATION, VALIDATION)
                    }
                    for name in profiled.spaces
                },
                problems=problems,
            )

    def measured(self, category: Category) -> list[tuple[Row, Measurement]]:
        """The rows of a category that have a measurement."""
        return [
            (row, row.measurement)
            for row in self.rows
            if row.category == category and row.measurement is not None
        ]

    @cached_property
    def ops(self) -> list[Op]:
        """The ops that have a latency above 0, in the order of measuring; not those of no kind."""
        found = []
        for row in self.rows:
            latency = _latency_of(row)
            if row.category != "op" or latency is None or latency[0] <= 0.0:
                continue
            try:
                found.append(Op(parse_key(row.key), *latency, self._text_of(row, *latency)))
            except UsageError:
                continue
        return found

    def _text_of(self, row: Row, latency_ms: float, low: float | None, high: float | None) -> str:
        said = f"{row.key}\n{ms(latency_ms)}, {interval_text(low, high)}"
        if row.imported is not None:
            return f"{said}\nimported, for networks at {row.imported.resolution}"
        visits = len(self.visits.get((row.category, row.key), ()))
        flags = ", ".join(row.measurement.flags) if row.measurement else ""
        return f"{said}\n{visits} visits, {row.status}; {flags or 'no flags'}"

    @cached_property
    def networks(self) -> list[Network]:
        """The measured networks of its spaces that it can predict, fast ones first."""
        found: list[Network] = []
        for predictor in self.predictors.values():
            found += self._networks_of(predictor)
        return sorted(found, key=lambda network: network.measured.latency_ms)

    def _networks_of(self, predictor: EfficiencyPredictor) -> list[Network]:
        space = predictor.space
        seen = []
        for row, measurement in self.measured("network"):
            if row.key not in self.roles or not is_architecture(row.key):
                continue
            try:
                architecture = space.from_key(row.key)
            except LutraError:
                continue
            if architecture is not None:
                seen.append((architecture, self.roles[row.key], measurement))
        if not seen:
            return []
        rows = np.stack([space.encode(architecture) for architecture, *_ in seen])
        latencies, widenings = predictor.predict(rows), predictor.widening(rows)
        return [
            Network(
                architecture,
                role,
                measurement,
                float(latency),
                *predictor.interval(float(latency), architecture.r, float(widening)),
            )
            for (architecture, role, measurement), latency, widening in zip(
                seen, latencies, widenings, strict=True
            )
            if np.isfinite(latency)
        ]


def _predictors(
    table: LatencyTable, profiled: Profiled
) -> tuple[dict[str, EfficiencyPredictor], list[str]]:
    """What predicts each space of the table, and why others cannot be predicted."""
    predictors, problems = {}, []
    for name in profiled.spaces:
        try:
            predictors[name] = EfficiencyPredictor(table, name)
        except LutraError as error:
            problems.append(str(error))
    return predictors, problems


def _latency_of(row: Row) -> tuple[float, float | None, float | None] | None:
    """A row's latency and interval in ms; None where it has none."""
    if row.imported is not None:
        return row.imported.latency_ms, None, None
    if row.measurement is None:
        return None
    measured = row.measurement
    return measured.latency_ms, measured.ci_low_ms, measured.ci_high_ms
