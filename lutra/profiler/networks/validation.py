"""How far off predictions are, on networks that nothing was fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lutra.predictors.efficiency.fitting import process_interval_percent
from lutra.predictors.efficiency.predictor import Floats


@dataclass(frozen=True)
class Validation:
    """The error of predictions on networks that nothing was fitted on, in percent.

    ``kendall_tau`` tells how well they rank networks (1: as measured), ``repeatability_percent``
    how far two halves of a network's own visits lie apart, ``interval_percent`` within which 95 %
    of further networks lie that the fit is as sure of as of most
    (`lutra.predictors.efficiency.fitting.process_interval_percent`).
    """

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
    interval_percent: float = float("nan")

    @classmethod
    def of(
        cls,
        predicted: Floats,
        measured: Floats,
        repeatability: float,
        drifted: int = 0,
        widening: Floats | None = None,
        process_ms: Floats | None = None,
    ) -> Validation:
        """Compare (N,) predictions with (N,) measurements, both in ms.

        ``widening`` (N,) says how much less sure each prediction is than is typical,
        ``process_ms`` (N, processes) what each process took that ran it.
        """
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
            interval_percent=process_interval_percent(
                predicted,
                measured[:, None] if process_ms is None else process_ms,
                np.ones(len(predicted)) if widening is None else widening,
            ),
        )
