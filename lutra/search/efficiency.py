"""From a latency table to the latency of any architecture, one or a million."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import MissingOpError
from lutra.profiler.drift import table_drifts
from lutra.profiler.run import reference_baseline
from lutra.search.costs import UnitCost, macs_cost, params_cost
from lutra.search.spaces import Architecture, SearchSpace
from lutra.search.spaces.base import Rows
from lutra.search.table_spaces import Profiled, profiled
from lutra.tables import LatencyTable
from lutra.tables.composition import Composition, unit_features

CALIBRATION = "calibration"
VALIDATION = "validation"

Floats = npt.NDArray[np.float64]


class Prediction(NamedTuple):
    """One architecture's predicted latency, with the interval that 95 % of networks fall into."""

    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    macs: int
    params: int


class Part(NamedTuple):
    """One unit of an architecture: what the table holds for it and what it adds to the network."""

    key: str
    unit_ms: float
    predicted_ms: float


class EfficiencyPredictor:
    """Latency, MACs and parameters of architectures of one space on one table's target.

    ``error_percent`` is the 95th percentile of the absolute error on whole networks: from
    `validate` where that was run, else cross-validated by `calibrate`, else None.
    """

    def __init__(self, table: LatencyTable, space_name: str | None = None) -> None:
        self.profiled: Profiled = profiled(table, space_name)
        self.space: SearchSpace = self.profiled.space
        self.target = table.target
        self.path = table.path
        self.reference_ms = reference_baseline(table)
        self.drift = table_drifts(table)["network"]
        calibration = _stored(table, CALIBRATION, self.space)
        self.composition = (
            Composition.from_json(calibration["composition"]) if calibration else Composition()
        )
        self.calibrated = calibration is not None
        self.error_percent = _error_percent(table, self.space)
        latencies = table.op_latencies()
        self._unit_ms = np.array([latencies.get(op.key, np.nan) for op in self.space.units])
        self.features = unit_features(self.space.units, self._unit_ms)
        self.latency = UnitCost(
            "latency",
            "ms",
            self.space,
            self.composition.prices(self.features),
            self.composition.constant_ms,
        )
        self.macs = macs_cost(self.space)
        self.params = params_cost(self.space)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions that the table was profiled at."""
        return self.profiled.resolutions

    def predict(self, rows: Rows) -> Floats:
        """(N, genes) -> (N,) milliseconds; NaN where an op was not measured."""
        return self.latency.of(rows)

    def predict_one(self, architecture: Architecture) -> Prediction:
        """One architecture; raises `MissingOpError` that names the ops the table lacks."""
        row = self.space.encode(architecture)[None, :]
        self._require(row)
        latency = float(self.predict(row)[0])
        low, high = self.interval(latency)
        return Prediction(
            latency, low, high, int(self.macs.of(row)[0]), int(self.params.of(row)[0])
        )

    def interval(self, latency_ms: float) -> tuple[float | None, float | None]:
        """Where 95 % of networks predicted at ``latency_ms`` were measured, if that is known."""
        if self.error_percent is None:
            return None, None
        share = self.error_percent / 100.0
        return latency_ms * (1.0 - share), latency_ms * (1.0 + share)

    def breakdown(self, architecture: Architecture) -> list[Part]:
        """What each unit contributes, in order; the rest is the composition's constant."""
        row = self.space.encode(architecture)[None, :]
        self._require(row)
        return [
            Part(
                self.space.units[index].key,
                float(self._unit_ms[index]),
                float(self.latency.prices[index]),
            )
            for index in self.space.unit_indices(row)[0]
            if index >= 0
        ]

    def network_features(self, rows: Rows) -> Floats:
        """(N, genes) -> (N, terms): each network's sums of `unit_features`, for fitting."""
        padded = np.vstack([self.features, np.zeros(self.features.shape[1])])
        summed: Floats = padded[self.space.unit_indices(rows)].sum(axis=1)
        return summed

    def _require(self, rows: Rows) -> None:
        indices = np.unique(self.space.unit_indices(rows))
        self.require_units(indices[indices >= 0].tolist())

    def require_units(self, indices: Sequence[int]) -> None:
        """Raise `MissingOpError` unless all these units of the space were measured."""
        missing = [index for index in indices if np.isnan(self._unit_ms[index])]
        if missing:
            raise MissingOpError(
                f"{self.path} lacks {len(missing)} needed op configurations, such as"
                f" {self.space.units[missing[0]].key}; `lutra profile` measures what is missing"
            )


def _stored(
    table: LatencyTable, name: str, space: SearchSpace
) -> dict[str, dict[str, float]] | None:
    documents = table.meta(name)
    found = documents.get(space.name) if isinstance(documents, dict) else None
    return found if isinstance(found, dict) else None


def _error_percent(table: LatencyTable, space: SearchSpace) -> float | None:
    for name, field in ((VALIDATION, "p95_percent"), (CALIBRATION, "cv_p95_percent")):
        value = (_stored(table, name, space) or {}).get(field)
        if isinstance(value, int | float) and np.isfinite(value) and value >= 0:
            return float(value)
    return None


def store_document(
    table: LatencyTable, name: str, space: SearchSpace, document: dict[str, object] | None
) -> None:
    """Keep a calibration or validation of one space in the table; None withdraws it."""
    documents = table.meta(name)
    merged = dict(documents) if isinstance(documents, dict) else {}
    merged[space.name] = document
    table.put_meta(name, merged)
