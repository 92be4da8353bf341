"""How parts add up: from the latencies of units to the latency of their network.

Plain sums over a table are biased: units timed alone run from a warmer cache and pay their own
start and layout changes. A small model corrects that. It stays additive over units, so searches
remain exact and fast, and every coefficient is non-negative and has a meaning::

    latency = constant + sum over units of
              scale * unit_ms + per_unit_ms + border * border_mb + weights * weight_mb

``border_mb`` is what the unit reads and writes at its borders, ``weight_mb`` its weights, both in
fp32 megabytes. Which terms are used is chosen by cross-validation on the calibration networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.errors import NotATableError
from lutra.ops import OpConfig

TERMS = ("scale", "per_unit_ms", "border_ms_per_mb", "weight_ms_per_mb")
_CANDIDATES: tuple[tuple[str, ...], ...] = (
    ("scale",),
    ("scale", "per_unit_ms"),
    ("scale", "border_ms_per_mb"),
    ("scale", "border_ms_per_mb", "weight_ms_per_mb"),
    ("scale", "per_unit_ms", "border_ms_per_mb", "weight_ms_per_mb"),
)
_FOLDS = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Composition:
    """Fitted coefficients; the default is the plain sum."""

    scale: float = 1.0
    per_unit_ms: float = 0.0
    border_ms_per_mb: float = 0.0
    weight_ms_per_mb: float = 0.0
    constant_ms: float = 0.0

    def prices(self, features: Floats) -> Floats:
        """What each unit adds to a network, in ms: (units, terms) -> (units,)."""
        prices: Floats = features @ np.array([getattr(self, term) for term in TERMS])
        return prices

    def to_json(self) -> dict[str, float]:
        """The dictionary that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Composition:
        """Read stored coefficients; raises `NotATableError` for anything else."""
        names = set(asdict(cls()))
        if (
            not isinstance(document, Mapping)
            or set(document) != names
            or not all(
                isinstance(value, int | float) and np.isfinite(value) for value in document.values()
            )
        ):
            raise NotATableError("the table's calibration is damaged; run `lutra calibrate` again")
        return cls(**{name: float(document[name]) for name in names})


def unit_features(ops: Sequence[OpConfig], latencies_ms: Floats) -> Floats:
    """(units, terms): what `Composition.prices` weighs; NaN where a unit was not measured."""
    borders = np.array([op.border_bytes for op in ops]) / 1e6
    weights = np.array([op.weight_bytes for op in ops]) / 1e6
    features: Floats = np.stack([latencies_ms, np.ones(len(ops)), borders, weights], axis=1)
    features[np.isnan(latencies_ms)] = np.nan
    return features


@dataclass(frozen=True)
class Fit:
    """A composition with its cross-validated mean absolute percentage error."""

    composition: Composition
    terms: tuple[str, ...]
    networks: int
    cv_mape_percent: float
    cv_p95_percent: float
    sum_mape_percent: float

    def to_json(self) -> dict[str, Any]:
        """For the table's ``calibration`` document."""
        return asdict(self)


def fit(features: Floats, measured_ms: Floats) -> Fit:
    """Fit the composition on whole networks.

    ``features`` is (networks, terms): the sum over each network's units of `unit_features`.
    ``measured_ms`` is (networks,). Errors count relative to the measured value. At least
    two networks are needed; terms are chosen by cross-validation where there are enough.
    """
    candidates = [terms for terms in _CANDIDATES if 3 * (len(terms) + 1) <= len(measured_ms)] or [
        ("scale",)
    ]
    errors = {terms: _cross_validated(features, measured_ms, terms) for terms in candidates}
    best = min(candidates, key=lambda terms: float(np.mean(np.abs(errors[terms]))))
    absolute = 100.0 * np.abs(errors[best])
    plain = 100.0 * np.abs(features[:, 0] / measured_ms - 1.0)
    return Fit(
        composition=_solve(features, measured_ms, best),
        terms=best,
        networks=len(measured_ms),
        cv_mape_percent=float(absolute.mean()),
        cv_p95_percent=float(np.quantile(absolute, 0.95)),
        sum_mape_percent=float(plain.mean()),
    )


def _cross_validated(features: Floats, measured: Floats, terms: Sequence[str]) -> Floats:
    """(networks,): relative error of each network predicted without it being fitted on."""
    errors = np.empty(len(measured))
    order = np.random.default_rng(0).permutation(len(measured))
    for fold in range(min(_FOLDS, len(measured))):
        held_out = order[fold::_FOLDS]
        kept = np.setdiff1d(order, held_out)
        composition = _solve(features[kept], measured[kept], terms)
        predicted = composition.prices(features[held_out]) + composition.constant_ms
        errors[held_out] = predicted / measured[held_out] - 1.0
    return errors


def _solve(features: Floats, measured: Floats, terms: Sequence[str]) -> Composition:
    """Non-negative least squares on relative errors."""
    from scipy.optimize import nnls

    columns = [TERMS.index(term) for term in terms]
    design = np.hstack([features[:, columns], np.ones((len(measured), 1))])
    relative = design / measured[:, None]
    size = np.maximum(relative.mean(axis=0), 1e-12)
    solution = nnls(relative / size, np.ones(len(measured)))[0] / size
    return Composition(
        **dict(zip(terms, map(float, solution[:-1]), strict=True)),
        constant_ms=float(solution[-1]),
    )
