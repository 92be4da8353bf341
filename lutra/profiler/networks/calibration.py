"""Calibrate and validate: whole networks tell how a table's ops add up, and how well."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lutra.predictors.efficiency.fitting import Fit, Networks, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.predictors.efficiency.stated_error import RESOLUTIONS
from lutra.predictors.filling.fill import fill_in
from lutra.predictors.filling.from_networks import solve_networks
from lutra.profiler.bench import Bench, DeviceOrSpec, bench_of_table
from lutra.profiler.networks.measured import Measured, collected
from lutra.profiler.networks.validation import Validation
from lutra.profiler.plan import FEW_ANCHORS, nearest
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import network_workload
from lutra.spaces import Architecture, SearchSpace, sample_networks
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, VALIDATION, store_document
from lutra.tables.measurement import CALIBRATE, VALIDATE, VERIFY

_MOST_NETWORKS = 160
_SEEDS = {CALIBRATE: 1, VALIDATE: 2}
_EVIDENCE = (CALIBRATE, VERIFY)


def calibrate(
    table: LatencyTable | str | Path,
    *,
    device: DeviceOrSpec | None = None,
    networks: int = 20,
    error_percent: float | None = None,
    space: SearchSpace | str | None = None,
    rounds: int | None = None,
    watch: Watch = UNWATCHED,
) -> Fit:
    """Measure random networks on a table's device, and fit how its ops add up to them.

    Those that the table holds count, so that it is fitted on ``networks`` at least, and those that
    searches found and measured beside. The fit, its errors in percent, is stored in the table, for
    predictions to use. With ``error_percent`` networks are added, up to 160, until the
    cross-validated mean absolute percentage error is no more than that; `Fit.cv_mape_percent` says
    whether it was reached.
    ``device`` is by default the one that the table was made with, ``space`` need only be named if
    the table covers several, ``rounds`` is the least number of rounds (6; 12 where models stay
    loaded). Raises `TableError` when ops are missing or fewer than two networks could be measured,
    `TargetMismatchError` when the device is not the table's, `UsageError` when device or space must
    be named, and `DeviceError`.

    >>> fit = calibrate("cpu.lut", networks=8)
    >>> fit.networks, fit.cv_mape_percent < 50.0
    (8, True)
    """
    with bench_of_table(table, device) as (opened, bench):
        protocol = replace(NETWORK_PROTOCOL, rounds=rounds)
        until = time.monotonic() + watch.budget_seconds
        while True:
            left = replace(watch, budget_seconds=until - time.monotonic())
            fitted = calibrate_on(bench, opened, networks, space, protocol, left)
            networks = 2 * max(networks, fitted.networks)
            enough = error_percent is None or fitted.cv_mape_percent <= error_percent
            if enough or networks > _MOST_NETWORKS or time.monotonic() >= until:
                return fitted


def validate(
    table: LatencyTable | str | Path,
    *,
    device: DeviceOrSpec | None = None,
    networks: int = 50,
    space: SearchSpace | str | None = None,
    rounds: int | None = None,
    watch: Watch = UNWATCHED,
) -> Validation:
    """Measure networks that nothing was fitted on; compare, and store the errors in the table.

    Those that did so before count, so that the errors are of ``networks`` at least. Arguments and
    errors are those of `calibrate`.

    >>> validation = validate("cpu.lut", networks=8)
    >>> validation.networks, validation.mape_percent < 50.0
    (8, True)
    """
    with bench_of_table(table, device) as (opened, bench):
        protocol = replace(NETWORK_PROTOCOL, rounds=rounds)
        return validate_on(bench, opened, networks, space, protocol, watch)


def calibrate_on(
    bench: Bench,
    table: LatencyTable,
    networks: int = 20,
    space: SearchSpace | str | None = None,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
) -> Fit:
    """`calibrate` on a bench that is open; the table is open for writing.

    A validation that the table holds is withdrawn: it spoke of the fit before.
    """
    predictor = EfficiencyPredictor(table, space, plain_sum=True)
    measured = _measure(bench, table, predictor, CALIBRATE, networks, protocol, watch)
    # What was measured may have brought ops nearer to the table's state.
    if table.filled() and _of_ops(table, predictor.space):
        fill_in(table, predictor.space, predictor.resolutions)
    predictor = EfficiencyPredictor(table, predictor.space, plain_sum=True)
    return _fitted(table, predictor, measured)


def calibrate_as_measured(table: LatencyTable, space: SearchSpace | str | None = None) -> Fit:
    """`calibrate` on the networks that the table holds: nothing is measured.

    The table is open for writing; raises `TableError` when ops are missing or networks are fewer
    than two.
    """
    predictor = EfficiencyPredictor(table, space, plain_sum=True)
    if _of_ops(table, predictor.space):
        predictor.require_ops(predictor.space.op_indices_at(predictor.resolutions))
    return _fitted(table, predictor, collected(table, _fitted_on(table, predictor)))


def _fitted(table: LatencyTable, predictor: EfficiencyPredictor, measured: Measured) -> Fit:
    space, resolutions = predictor.space, predictor.resolutions
    if _of_ops(table, space):
        fitted = fit(_evidence(predictor, measured))
    else:
        filled, fitted = solve_networks(
            space, resolutions, measured.rows(space), measured.measured_ms, measured.process_ms
        )
        table.fill(filled)
    document: dict[str, object] = {
        **fitted.to_json(),
        "repeatability_percent": measured.repeatability_percent,
        "drifted_networks": measured.drifted,
        RESOLUTIONS: measured.resolutions,
    }
    store_document(table, CALIBRATION, predictor.space.name, document)
    store_document(table, VALIDATION, predictor.space.name, None)
    return fitted


def _of_ops(table: LatencyTable, space: SearchSpace) -> bool:
    """Whether predictions are to rest on ops: not, where networks alone were measured."""
    measured = table.op_latencies()
    return any(op.key in measured for op in space.ops) or not any(
        row.measurement for row in table.rows("network")
    )


def validate_on(
    bench: Bench,
    table: LatencyTable,
    networks: int = 50,
    space: SearchSpace | str | None = None,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
) -> Validation:
    """`validate` on a bench that is open; the table is open for writing."""
    predictor = EfficiencyPredictor(table, space)
    measured = _measure(bench, table, predictor, VALIDATE, networks, protocol, watch)
    predictor = EfficiencyPredictor(table, predictor.space)  # of the ops as they are now
    rows = measured.rows(predictor.space)
    validation = Validation.of(
        predictor.predict(rows),
        measured.measured_ms,
        measured.repeatability_percent,
        measured.drifted,
        predictor.widening(rows),
        measured.process_ms,
    )
    document = {**asdict(validation), RESOLUTIONS: measured.resolutions}
    store_document(table, VALIDATION, predictor.space.name, document)
    return validation


def _measure(
    bench: Bench,
    table: LatencyTable,
    predictor: EfficiencyPredictor,
    role: str,
    count: int,
    protocol: TimingProtocol,
    watch: Watch,
) -> Measured:
    space = predictor.space
    if _of_ops(table, space):
        predictor.require_ops(space.op_indices_at(predictor.resolutions))
    architectures = _networks_for(table, predictor, role, count)
    measure_networks(bench, table, space, architectures, role, protocol, watch)
    if role == CALIBRATE:
        architectures = list(dict.fromkeys([*architectures, *_fitted_on(table, predictor)]))
    return collected(table, architectures)


def measure_networks(
    bench: Bench,
    table: LatencyTable,
    space: SearchSpace,
    architectures: Sequence[Architecture],
    role: str,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
    *,
    near_ms: Sequence[float] | None = None,
) -> None:
    """Measure networks into a table and in its state, to which those that calibrated it bring them.

    Those nearest to ``near_ms`` tell best what the machine did to networks that take about as long.
    Raises `TargetMismatchError` and `DeviceError`.
    """
    known_ms = _held(table, CALIBRATE, space, space.resolutions)
    known = list(known_ms) if near_ms is None else nearest(known_ms, near_ms, FEW_ANCHORS)
    wanted, held = (
        [network_workload(space, each, kind, bench.emission) for each in networks]
        for networks, kind in ((architectures, role), (known, CALIBRATE))
    )
    bench.measure(table, wanted, protocol, anchors=held, watch=watch)


def _networks_for(
    table: LatencyTable, predictor: EfficiencyPredictor, role: str, count: int
) -> list[Architecture]:
    """The role's networks: all that the table holds, and with others at least ``count``.

    To validate, none that calibrated the table.
    """
    space, resolutions = predictor.space, predictor.resolutions
    held = _held(table, role, space, resolutions)
    if role == VALIDATE:
        other = {row.key for kind in _EVIDENCE for row in table.rows("network", kind)}
        drawn = sample_networks(space, resolutions, count + len(other), _SEEDS[role])
        fresh = [item for item in drawn if item.key not in other]
        return _filled_up(held, fresh, max(count, len(held)))
    if predictor.host_and_device is None:
        return calibrating_networks(table, space, resolutions, max(count, len(held)))
    drawn = sample_networks(space, resolutions, count, _SEEDS[role])
    chosen = predictor.host_and_device.of_both_bounds(drawn, resolutions)
    return _filled_up(chosen, held, len(chosen) + len(held))


def calibrating_networks(
    table: LatencyTable, space: SearchSpace, resolutions: Sequence[int], count: int
) -> list[Architecture]:
    """``count`` networks of a space at these resolutions, the same ones each time.

    Those that the table measured for it come first, in the order they were first measured; the
    others are random ones.
    """
    held = _held(table, CALIBRATE, space, resolutions)
    # As many as for an empty table: a run that was stopped goes on with its own.
    drawn = sample_networks(space, resolutions, count, _SEEDS[CALIBRATE])
    return _filled_up(held, drawn, count)


def _filled_up(
    first: Iterable[Architecture], others: Iterable[Architecture], count: int
) -> list[Architecture]:
    """``count`` networks, each once: the first ones, then others."""
    return list(dict.fromkeys([*first, *others]))[:count]


def _held(
    table: LatencyTable, role: str, space: SearchSpace, resolutions: Sequence[int]
) -> dict[Architecture, float]:
    """The networks of a space that the table measured in a role, in that order, in ms."""
    return {
        architecture: row.measurement.latency_ms
        for row in table.rows("network", role)
        if row.measurement is not None
        and (architecture := space.from_key(row.key)) is not None
        and architecture.r in resolutions
    }


def _fitted_on(table: LatencyTable, predictor: EfficiencyPredictor) -> list[Architecture]:
    """The networks that were measured to calibrate the table, and those that searches found."""
    return [
        architecture
        for role in _EVIDENCE
        for architecture in _held(table, role, predictor.space, predictor.resolutions)
    ]


def evidence_of(
    table: LatencyTable, predictor: EfficiencyPredictor, architectures: Sequence[Architecture]
) -> Networks:
    """What a fit learns from networks that the table measured; at least 2, else `TableError`."""
    return _evidence(predictor, collected(table, architectures))


def _evidence(predictor: EfficiencyPredictor, measured: Measured) -> Networks:
    networks = predictor.networks(measured.rows(predictor.space), measured.measured_ms)
    repeatability = measured.repeatability_percent
    return replace(networks, process_ms=measured.process_ms, repeatability_percent=repeatability)
