"""How far off predictions are said to be: what a table's documents know, and of which networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lutra.predictors.efficiency.fitting import ENOUGH_NETWORKS
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, VALIDATION, is_stale, read_document

INTERVAL, ELSEWHERE, RESOLUTIONS = "interval_percent", "elsewhere_percent", "interval_resolutions"
# Of documents from before intervals were conformal.
_BEFORE = {VALIDATION: "p95_percent", CALIBRATION: "cv_p95_percent"}
_MOST_PERCENT = 1e9


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

        By `validate`, or cross-validated by `calibrate` where that rests on more networks, up to
        what is enough; None where they are of other ops, or not known.
        """
        documents = {name: read_document(table, name, space) or {} for name in _BEFORE}
        fresh = {
            name: document
            for name, document in documents.items()
            if not is_stale(document, latencies_ms)
        }
        known = []
        for name, document in fresh.items():
            percent = _percent(document.get(INTERVAL, document.get(_BEFORE[name])))
            if percent is not None:
                known.append((_worth(document), percent, document.get(RESOLUTIONS)))
        if not known:
            return None
        elsewhere = _percent(fresh.get(CALIBRATION, {}).get(ELSEWHERE))
        _, percent, seen = max(known, key=lambda item: item[0])  # the first of those worth as much
        resolutions = seen if isinstance(seen, list) else []
        return cls(percent, tuple(r for r in resolutions if isinstance(r, int)), elsewhere)


def _worth(document: Mapping[str, object]) -> int:
    """How many networks a document rests on, up to what is enough."""
    networks = document.get("networks")
    return min(networks, ENOUGH_NETWORKS) if isinstance(networks, int) else 0


def _percent(value: object) -> float | None:
    """A figure of a document; None for what is no percentage."""
    usable = isinstance(value, int | float) and 0 <= value < _MOST_PERCENT
    return float(value) if usable else None  # type: ignore[arg-type]
