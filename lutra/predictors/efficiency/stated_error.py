"""How far off predictions are said to be: what a table's documents know, and of which networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, VALIDATION, is_stale, read_document

INTERVAL, ELSEWHERE, RESOLUTIONS = "interval_percent", "elsewhere_percent", "interval_resolutions"
# Of documents from before intervals were conformal.
_BEFORE = {VALIDATION: "p95_percent", CALIBRATION: "cv_p95_percent"}


@dataclass(frozen=True)
class StatedError:
    """Within ``percent`` 95 % of networks lie, at the ``resolutions`` that it was learned at.

    At others it is ``elsewhere_percent``, if that is known. No resolutions: it holds at all.
    """

    percent: float
    resolutions: tuple[int, ...] = ()
    elsewhere_percent: float | None = None

    def at(self, resolution: int) -> float | None:
        """The percent for networks of a resolution; None where nothing is known of it."""
        if not self.resolutions or resolution in self.resolutions:
            return self.percent
        if self.elsewhere_percent is None:
            return None
        return max(self.percent, self.elsewhere_percent)

    @classmethod
    def read(
        cls, table: LatencyTable, space: str, latencies_ms: Mapping[str, float]
    ) -> StatedError | None:
        """What a table states of a space's networks, of the ops as they are (key -> ms).

        By `validate`, else cross-validated by `calibrate`; None where that is of other ops, or not
        known.
        """
        calibration = read_document(table, CALIBRATION, space) or {}
        elsewhere = _percent(calibration.get(ELSEWHERE))
        for name, before in _BEFORE.items():
            document = read_document(table, name, space) or {}
            percent = _percent(document.get(INTERVAL, document.get(before)))
            if percent is None or is_stale(document, latencies_ms):
                continue
            known = document.get(RESOLUTIONS)
            resolutions = known if isinstance(known, list) else []
            return cls(percent, tuple(r for r in resolutions if isinstance(r, int)), elsewhere)
        return None


def _percent(value: object) -> float | None:
    usable = isinstance(value, int | float) and np.isfinite(value) and value >= 0
    return float(value) if usable else None  # type: ignore[arg-type]
