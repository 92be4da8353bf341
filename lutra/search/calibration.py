"""Calibrate and validate: whole networks tell how a table's parts add up, and how well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lutra.errors import TableError
from lutra.predictors.efficiency.fitting import Fit, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor, Floats
from lutra.profiler.job import Bench
from lutra.profiler.run import Progress, Protocol
from lutra.profiler.subject import network_subject
from lutra.search.networks import NETWORK_PROTOCOL, repeatability_percent
from lutra.spaces import Architecture, sample_networks
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, VALIDATION, store_document
from lutra.tables.drift import table_drifts
from lutra.tables.measurement import CALIBRATE, VALIDATE

_SEEDS = {CALIBRATE: 1, VALIDATE: 2}


@dataclass(frozen=True)
class Validation:
    """The error of predictions on networks that nothing was fitted on, in percent."""

    networks: int
    mape_percent: float
    bias_percent: float
    p95_percent: float
    max_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float
    repeatability_percent: float
    drifted_networks: int = 0

    @classmethod
    def of(
        cls, predicted: Floats, measured: Floats, repeatability: float, drifted: int = 0
    ) -> Validation:
        """Compare (N,) predictions with (N,) measurements, both in ms."""
        from scipy.stats import kendalltau

        errors = 100.0 * (predicted / measured - 1.0)
        absolute = np.abs(errors)
        return cls(
            networks=len(errors),
            mape_percent=float(absolute.mean()),
            bias_percent=float(errors.mean()),
            p95_percent=float(np.quantile(absolute, 0.95)),
            max_percent=float(absolute.max()),
            within_5_percent=100.0 * float((absolute <= 5.0).mean()),
            within_10_percent=100.0 * float((absolute <= 10.0).mean()),
            kendall_tau=float(kendalltau(predicted, measured).statistic),
            repeatability_percent=repeatability,
            drifted_networks=drifted,
        )


@dataclass(frozen=True)
class Measured:
    """Networks with their latency (N,) in ms, and the mean half-to-half difference in percent.

    ``drifted`` of them were measured only while the machine was slower than the table's.
    """

    architectures: list[Architecture]
    measured_ms: Floats
    repeatability_percent: float
    drifted: int


def calibrate(
    bench: Bench,
    table: LatencyTable,
    *,
    networks: int = 20,
    space_name: str | None = None,
    protocol: Protocol = NETWORK_PROTOCOL,
    budget_seconds: float = float("inf"),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Fit:
    """Measure random networks, fit how the table's parts add up to them, and store the fit.

    A validation that the table holds is withdrawn: it spoke of the fit before. Raises
    `TableError` when fewer than two networks could be measured.
    """
    predictor = EfficiencyPredictor(table, space_name, plain_sum=True)
    measured = _measure(
        bench, table, predictor, CALIBRATE, networks, protocol, budget_seconds, on_progress
    )
    space = predictor.space
    rows = np.stack([space.encode(architecture) for architecture in measured.architectures])
    fitted = fit(predictor.networks(rows, measured.measured_ms), gpu=predictor.on_gpu)
    document: dict[str, object] = {
        **fitted.to_json(),
        "repeatability_percent": measured.repeatability_percent,
        "drifted_networks": measured.drifted,
    }
    store_document(table, CALIBRATION, space.name, document)
    store_document(table, VALIDATION, space.name, None)
    return fitted


def validate(
    bench: Bench,
    table: LatencyTable,
    *,
    networks: int = 50,
    space_name: str | None = None,
    protocol: Protocol = NETWORK_PROTOCOL,
    budget_seconds: float = float("inf"),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Validation:
    """Measure networks that nothing was fitted on; compare, and store the errors in the table."""
    predictor = EfficiencyPredictor(table, space_name)
    measured = _measure(
        bench, table, predictor, VALIDATE, networks, protocol, budget_seconds, on_progress
    )
    space = predictor.space
    rows = np.stack([space.encode(architecture) for architecture in measured.architectures])
    validation = Validation.of(
        predictor.predict(rows),
        measured.measured_ms,
        measured.repeatability_percent,
        measured.drifted,
    )
    store_document(table, VALIDATION, space.name, asdict(validation))
    return validation


def _measure(
    bench: Bench,
    table: LatencyTable,
    predictor: EfficiencyPredictor,
    role: str,
    count: int,
    protocol: Protocol,
    budget_seconds: float,
    on_progress: Callable[[Progress], None],
) -> Measured:
    space = predictor.space
    predictor.require_units(_needed_units(predictor))
    architectures = _networks_for(table, predictor, role, count)
    subjects = [
        network_subject(space, architecture, role, bench.emission) for architecture in architectures
    ]
    bench.measure(table, subjects, protocol, budget_seconds=budget_seconds, on_progress=on_progress)
    return _collected(table, architectures)


def _needed_units(predictor: EfficiencyPredictor) -> Sequence[int]:
    wanted = {op.key for op in predictor.space.units_at(predictor.resolutions)}
    return [index for index, op in enumerate(predictor.space.units) if op.key in wanted]


def _networks_for(
    table: LatencyTable, predictor: EfficiencyPredictor, role: str, count: int
) -> list[Architecture]:
    """The role's networks, always the same ones; none that the table fits or fitted on."""
    other = {row.key for row in table.rows("network", CALIBRATE)} if role == VALIDATE else set()
    drawn = sample_networks(
        predictor.space, predictor.resolutions, count + len(other), _SEEDS[role]
    )
    chosen = [item for item in drawn if item.key not in other][:count]
    if role == CALIBRATE and predictor.both is not None:
        return predictor.both.of_both_bounds(chosen, predictor.resolutions)
    return chosen


def _collected(table: LatencyTable, architectures: Sequence[Architecture]) -> Measured:
    """The networks that were measured, where most of them were steady only those.

    A network is flagged when the references say that the machine was slower all the while than
    when the table was made. If that is so for most, they are used and counted: the numbers then
    speak of the slower machine.
    """
    rows = {row.key: row.measurement for row in table.rows("network") if row.measurement}
    measured = [item for item in architectures if item.key in rows]
    steady = [item for item in measured if not rows[item.key].flags]
    used = steady if 2 * len(steady) >= max(len(measured), 4) else measured
    if len(used) < 2:
        raise TableError(f"only {len(used)} networks could be measured; at least 2 are needed")
    keys = [item.key for item in used]
    drift = table_drifts(table)["network"]
    halves = [repeatability_percent(table.visits("network", key), drift) for key in keys]
    known = [half for half in halves if half is not None]
    return Measured(
        used,
        np.array([rows[key].latency_ms for key in keys]),
        float(np.mean(known)) if known else float("nan"),
        drifted=sum(1 for key in keys if rows[key].flags),
    )
