"""From a latency table to the latency of any architecture, one or a million."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import MissingOpError, NotATableError
from lutra.predictors.efficiency.basis import Basis, RowErrors
from lutra.predictors.efficiency.composition import Composition, op_features, stages_of
from lutra.predictors.efficiency.costs import OpCost, macs_cost, params_cost, resolutions_text
from lutra.predictors.efficiency.fitting import Networks
from lutra.predictors.efficiency.forms import Latency
from lutra.predictors.efficiency.host_and_device import HostAndDevice, network_sums
from lutra.predictors.efficiency.op_prices import filled_deviations, origin_of, priced_space
from lutra.predictors.efficiency.spread import Spread
from lutra.predictors.efficiency.stated_error import StatedError
from lutra.spaces import Architecture, Rows, SearchSpace, get_space
from lutra.tables import LatencyTable, opened_table
from lutra.tables.documents import CALIBRATION, is_stale, read_document
from lutra.tables.measurement import LEAST_MS
from lutra.tables.profiled import resolutions_of

BOUNDS = ("device-bound", "launch-bound")
GPU = "cuda"
STALE = "ops were measured after the calibration"

Floats = npt.NDArray[np.float64]

_MOST_SHARE = 0.95  # an interval has an upper end


class Prediction(NamedTuple):
    """One architecture's predicted latency, with the interval that 95 % of networks fall into.

    ``bound`` is one of `BOUNDS` where the larger of two forms is the latency: whether the device
    or the host that launches its work takes longer.
    """

    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    macs: int
    params: int
    bound: str | None = None


class OpContribution(NamedTuple):
    """One op of an architecture: what the table holds for it and what it adds to the network."""

    key: str
    alone_ms: float
    predicted_ms: float


class EfficiencyPredictor:
    """Latency, MACs and parameters of architectures of one space on one table's target.

    ``resolutions`` are those that the table was profiled at. ``stated`` is how far off 95 % of
    networks are: from `validate` where that was run, else cross-validated by `calibrate`, else
    None. It is also None where ops were measured since either. ``stale`` says that they were since
    the calibration, `staleness` whether the error is known all the same. With ``plain_sum`` the
    table's calibration is not looked at. ``host_and_device`` is None for tables that do not tell
    the two apart. ``origin`` says so where the table was imported; ``space`` then has an op once
    for each resolution.

    >>> predictor = EfficiencyPredictor("cpu.lut")
    >>> architecture = predictor.space.decode(predictor.latency.cheapest([224])[1])
    >>> prediction = predictor.predict_one(architecture)
    >>> prediction.low_ms < prediction.latency_ms < prediction.high_ms
    True
    >>> rows = predictor.space.encode(architecture)[None, :]  # (N, genes)
    >>> predictor.predict(rows).shape  # (N,) ms
    (1,)
    """

    def __init__(
        self,
        table: LatencyTable | str | Path,
        space: SearchSpace | str | None = None,
        *,
        plain_sum: bool = False,
    ) -> None:
        """Read a table, or the file of one; ``space`` need only be named if it covers several.

        Raises `TableError` when the table cannot be read or does not cover the space, `UsageError`
        for a space that is unknown or must be named.
        """
        with opened_table(table) as opened:
            self._read(opened, space, plain_sum=plain_sum)

    def _read(
        self, table: LatencyTable, space: SearchSpace | str | None, *, plain_sum: bool
    ) -> None:
        known_space, self.resolutions = _space_and_resolutions(table, space)
        rows = table.rows("op")
        filled = {row.key: row.filled for row in rows if row.filled}
        self.space, self._alone_ms = priced_space(table, rows, known_space)
        self.origin = origin_of(table)
        self._filled_ms = filled_deviations(filled, self.space)
        self.target = table.target
        self.path = table.path
        name = self.space.name
        calibration = None if plain_sum else read_document(table, CALIBRATION, name)
        self.composition, self.launch = _compositions(calibration)
        self.calibrated = calibration is not None
        measured = {row.key: row.measurement for row in rows if row.measurement}
        latencies = {key: measurement.latency_ms for key, measurement in measured.items()}
        self.stale = calibration is not None and is_stale(calibration, latencies)
        self.stated = None if plain_sum else StatedError.read(table, name, latencies)
        self.features = op_features(self.space.ops, self._alone_ms)
        self._stages = stages_of(self.space.ops)
        stored = None if calibration is None else calibration.get("spread")
        self._spread = Spread.from_json(stored, self.features.shape[1])
        self.on_gpu = table.target.device == GPU
        self.host_and_device = (
            HostAndDevice.read(table, self.space, self._alone_ms) if self.on_gpu else None
        )
        self._row_errors = RowErrors(self.space, measured, filled)
        self.latency = self._latency()
        self.macs = macs_cost(self.space)
        self.params = params_cost(self.space)

    def predict(self, rows: Rows) -> Floats:
        """(N, genes) -> (N,) milliseconds; NaN where an op was not measured.

        Raises `NotATableError` where a calibration makes nothing of what ops take.
        """
        latencies = self.latency.of(rows)
        if (latencies < LEAST_MS).any():
            raise NotATableError(
                f"{self.path} is calibrated so that networks take no time;"
                " run `lutra calibrate` again"
            )
        return latencies

    def predict_one(self, architecture: Architecture) -> Prediction:
        """One architecture's latency, MACs and parameters; raises `MissingOpError`."""
        row = self.space.encode(architecture)[None, :]
        self._require(row)
        latency = float(self.predict(row)[0])
        low, high = self.interval(latency, architecture.r, float(self.widening(row)[0]))
        macs, params = (int(cost.of(row)[0]) for cost in (self.macs, self.params))
        bound = BOUNDS[int(self.latency.ruling(row)[0])] if self.launch else None
        return Prediction(latency, low, high, macs, params, bound)

    def interval(
        self, latency_ms: float, resolution: int, widening: float = 1.0
    ) -> tuple[float | None, float | None]:
        """Where 95 % of networks of a resolution predicted at ``latency_ms`` are measured.

        ``widening`` is that of the network. None where the error is not known.
        """
        percent = self._percent_at(resolution)
        if percent is None:
            return None, None
        share = min(widening * percent / 100.0, _MOST_SHARE)
        return latency_ms / (1.0 + share), latency_ms / (1.0 - share)

    def staleness(self, resolutions: Iterable[int]) -> str | None:
        """What to say of a stale calibration to who predicts networks of some resolutions.

        The error is known all the same where it was validated since. None if it is not stale.
        """
        if not self.stale:
            return None
        unknown = [str(each) for each in resolutions if self._percent_at(each) is None]
        if not unknown:
            return STALE
        where = f" at {', '.join(unknown)}" if self.stated else ""
        return f"{STALE}: the error of predictions{where} is not known"

    def _percent_at(self, resolution: int) -> float | None:
        return self.stated.at(resolution) if self.stated else None

    def widening(self, rows: Rows) -> Floats:
        """(N, genes) -> (N,): how much less sure each is than networks like the calibrating ones.

        1 where nothing tells.
        """
        if self._spread is None:
            return np.ones(len(rows))
        return self._spread.widening(
            self.network_features(rows), self.predict(rows), self._filled_in(rows)
        )

    def _filled_in(self, rows: Rows) -> Floats | None:
        """(N,): the standard deviation that ops bring which were not measured, in ms."""
        if self._filled_ms is None:
            return None
        squares = network_sums(self.space, self._filled_ms[:, None] ** 2, rows)
        deviations: Floats = np.sqrt(squares[:, 0])
        return deviations

    def breakdown(self, architecture: Architecture) -> list[OpContribution]:
        """What each op adds to the latency in ms, in order; the rest is `constant_ms`.

        Where the latency is the larger of two forms, it is what they add to that one.
        """
        row = self.space.encode(architecture)[None, :]
        self._require(row)
        prices = self._ruling_form(row).prices
        return [
            OpContribution(
                self.space.ops[index].key, float(self._alone_ms[index]), float(prices[index])
            )
            for index in self.space.op_indices(row)[0]
            if index >= 0
        ]

    def basis(
        self, architecture: Architecture, prediction: Prediction | None = None
    ) -> Basis | None:
        """What an architecture's interval rests on, row by row; None where rows have no intervals.

        ``prediction`` is its own, where it was made already. Where the latency is the larger of two
        forms, a row's relative error is taken to be that of its part in the larger one. Raises
        `MissingOpError`.
        """
        row = self.space.encode(architecture)[None, :]
        prediction = prediction or self.predict_one(architecture)
        percent = None
        if prediction.high_ms is not None:
            percent = 100.0 * (1.0 - prediction.latency_ms / prediction.high_ms)
        indices = self.space.op_indices(row)[0]
        return self._row_errors.basis(
            indices[indices >= 0], self._own_parts(row), prediction.latency_ms, percent
        )

    def _own_parts(self, row: Rows) -> Floats:
        """(ops,) ms: what each op's own latency adds to the form that rules a network."""
        composition, features = self.composition, self.features
        if self.launch is not None and self.host_and_device is not None:
            launched = bool(self.latency.ruling(row)[0])
            composition = self.launch if launched else self.composition
            features = self.host_and_device.launch if launched else self.host_and_device.device
        return composition.own_parts(features, self._stages)

    def constant_ms(self, architecture: Architecture) -> float:
        """What this network's latency has beside its ops' contributions, in ms."""
        return self._ruling_form(self.space.encode(architecture)[None, :]).constant

    def network_features(self, rows: Rows) -> Floats:
        """(N, genes) -> (N, terms and stages): each network's sums of `op_features`."""
        return network_sums(self.space, self.features, rows)

    def networks(self, rows: Rows, measured_ms: Floats) -> Networks:
        """What `fit` needs of measured networks: (N, genes) and (N,) ms.

        With both forms where the table knows what the device alone needs of all their ops.
        """
        features = self.network_features(rows)
        resolutions = np.array([self.space.decode(row).r for row in rows])
        device, launch = self.host_and_device.sums(rows) if self.host_and_device else (None, None)
        if device is None or np.isnan(device).any():
            device = launch = None
        return Networks(
            measured_ms,
            features,
            device,
            launch,
            resolutions,
            self._stages,
            filled_ms=self._filled_in(rows),
        )

    def _ruling_form(self, row: Rows) -> OpCost:
        return self.latency.forms[int(self.latency.ruling(row)[0])]

    def _latency(self) -> Latency:
        if self.launch is None:
            return Latency((self._form("latency", self.composition, self.features),))
        if self.host_and_device is None:
            raise NotATableError(
                f"{self.path} is calibrated for device times that it does not hold;"
                " run `lutra calibrate` again"
            )
        return Latency(
            (
                self._form("device latency", self.composition, self.host_and_device.device),
                self._form("launch latency", self.launch, self.host_and_device.launch),
            )
        )

    def _form(self, name: str, composition: Composition, features: Floats) -> OpCost:
        prices = composition.prices(features, self._stages)
        return OpCost(name, "ms", self.space, prices, composition.constant_ms)

    def _require(self, rows: Rows) -> None:
        indices = np.unique(self.space.op_indices(rows))
        self.require_ops(indices[indices >= 0].tolist())

    @property
    def _remedy(self) -> str:
        if self.origin is None:
            return "`lutra profile` measures what is missing"
        return f"it was made for {resolutions_text(self.resolutions)}: import the others too"

    def require_ops(self, indices: Sequence[int]) -> None:
        """Raise `MissingOpError` unless the table has what predicting takes of all these ops."""
        missing = [index for index in indices if np.isnan(self._alone_ms[index])]
        if missing:
            raise MissingOpError(
                f"{self.path} lacks {len(missing)} needed op configurations, such as"
                f" {self.space.ops[missing[0]].key}; {self._remedy}"
            )
        prices = self.latency.forms[0].prices
        missing = [index for index in indices if np.isnan(prices[index])]
        if missing:
            raise MissingOpError(
                f"{self.path} is calibrated for device times, but holds none of {len(missing)}"
                f" needed op configurations, such as {self.space.ops[missing[0]].key};"
                " run `lutra calibrate` again"
            )


def _compositions(
    calibration: Mapping[str, object] | None,
) -> tuple[Composition, Composition | None]:
    """The stored composition, and that of launches where there is one."""
    if calibration is None:
        return Composition(), None
    launch = calibration.get("launch")
    return (
        Composition.from_json(calibration.get("composition")),
        None if launch is None else Composition.from_json(launch),
    )


def _space_and_resolutions(
    table: LatencyTable, asked: SearchSpace | str | None
) -> tuple[SearchSpace, tuple[int, ...]]:
    """The space that a table is asked about, and what it was profiled at."""
    # That a name is unknown is worse than that the table does not cover it.
    space = None if asked is None else get_space(asked)
    found, resolutions = resolutions_of(table, space.name if space else None)
    space = space or get_space(found)
    space.check_resolutions(resolutions)
    return space, resolutions
