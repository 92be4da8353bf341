"""How sure predictions are of one network and of another, by how far it is from those fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lutra.errors import NotATableError
from lutra.predictors.efficiency.regression import Floats, deviations

_LEAST = 1e-12  # of a deviation; none of a fit's is near it, or near its inverse


@dataclass(frozen=True)
class Spread:
    """The covariance of a fit's coefficients, those of ``columns`` of the features and a constant.

    ``noise`` is what a network's latency differs by, relative, beside what the coefficients do not
    know; ``typical`` is both together for the networks that were fitted on, and what is not known
    of ops that were not measured.
    """

    columns: tuple[int, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: float
    typical: float

    def widening(
        self, features: Floats, predicted_ms: Floats, filled_ms: Floats | None = None
    ) -> Floats:
        """(N, terms and stages), (N,) -> (N,): how much less sure each is than the typical one.

        ``filled_ms`` (N,) is the standard deviation that ops bring which were not measured.
        """
        design = np.hstack([features[:, self.columns], np.ones((len(features), 1))])
        shares = design / predicted_ms[:, None]
        known = deviations(shares, np.array(self.covariance), self.noise)
        return with_filled(known, predicted_ms, filled_ms) / self.typical

    @classmethod
    def from_json(cls, document: object, features: int) -> Spread | None:
        """What a table stored, of so many features; None of before it was.

        Raises `NotATableError`.
        """
        if document is None:
            return None
        try:
            return cls._read(document, features)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise NotATableError(
                "the table's calibration is damaged; run `lutra calibrate` again"
            ) from error

    @classmethod
    def _read(cls, document: Mapping[str, Any], features: int) -> Spread:
        columns = tuple(int(column) for column in document["columns"])
        covariance = np.array(document["covariance"], dtype=np.float64)
        noise, typical = float(document["noise"]), float(document["typical"])
        if (
            covariance.shape != (len(columns) + 1, len(columns) + 1)
            or not all(0 <= column < features for column in columns)
            or not (np.abs(covariance) < 1.0 / _LEAST).all()
            or not all(_LEAST < deviation < 1.0 / _LEAST for deviation in (noise, typical))
        ):
            raise ValueError("not a spread")
        return cls(columns, tuple(map(tuple, covariance.tolist())), noise, typical)


def with_filled(deviation: Floats, latency_ms: Floats, filled_ms: Floats | None) -> Floats:
    """Relative standard deviations (N,), and what ops add that were not measured (N,), in ms."""
    if filled_ms is None:
        return deviation
    both: Floats = np.hypot(deviation, filled_ms / latency_ms)
    return both
