"""A latency budget that is kept by the upper end of what is predicted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.errors import InfeasibleError, UsageError
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.spaces.base import Rows
from lutra.supernets.single_path.network import SuperkernelNetwork
from lutra.supernets.single_path.settling import Row, settled


class Budget:
    """Which networks of a space keep ``max_ms`` at a resolution; all do where it is None.

    Raises `UsageError` for a budget that is no positive number, `InfeasibleError` for one that the
    fastest network does not keep, `MissingOpError`.
    """

    def __init__(
        self, predictor: EfficiencyPredictor, resolution: int, max_ms: float | None
    ) -> None:
        self._predictor = predictor
        self._resolution = resolution
        self._max_ms = max_ms
        self._fastest = predictor.latency.cheapest([resolution])[1]
        self._least_ms = least_ms = float(self._upper_ms(self._fastest[None])[0])
        if max_ms is None:
            return
        if not (np.isfinite(max_ms) and max_ms > 0):
            raise UsageError(f"a budget of {max_ms:g} ms must be above zero and finite")
        if least_ms > max_ms:
            raise InfeasibleError(
                f"no subnet of {predictor.space.name} keeps {max_ms:.6g} ms at resolution"
                f" {resolution}: of the fastest one the predicted upper limit is {least_ms:.6g} ms"
            )

    @property
    def predicted_ms(self) -> float | None:
        """What most networks that keep the budget are predicted at, at most; None without one."""
        if self._max_ms is None:
            return None
        return self._max_ms / self._usual

    def predicting(self, limit_ms: float) -> Budget:
        """The budget of most networks that are predicted at ``limit_ms`` or less.

        That of the fastest network where it would not keep that.
        """
        most_ms = max(limit_ms * self._usual, self._least_ms)
        return Budget(self._predictor, self._resolution, most_ms)

    @property
    def _usual(self) -> float:
        """The upper end of most predictions, over what is predicted."""
        return self._predictor.interval(1.0, self._resolution)[1] or 1.0

    def kept_by(self, network: SuperkernelNetwork) -> Row:
        """The canonical row (genes,) that a trained network ends with, within the budget."""
        row = network.row()
        row[-1] = self._fastest[-1]
        if self._max_ms is not None:
            logits = network.logits_by_gene()
            row = settled(row, logits, self._upper_ms, self._max_ms, self._fastest)
        canonical: Row = self._predictor.space.canonical(row[None])[0]
        return canonical

    def _upper_ms(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): the upper end of each prediction, itself where no error is known."""
        predictor = self._predictor
        limits = [
            predictor.interval(latency_ms, self._resolution, widening)[1] or latency_ms
            for latency_ms, widening in zip(
                predictor.predict(rows), predictor.widening(rows), strict=True
            )
        ]
        return np.array(limits, dtype=np.float64)
