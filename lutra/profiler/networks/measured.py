"""What networks took, of a table that measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lutra.errors import TableError
from lutra.predictors.efficiency.fitting import padded
from lutra.predictors.efficiency.predictor import Floats
from lutra.profiler.statistics import process_ratios, repeatability_percent
from lutra.spaces import Architecture, Rows, SearchSpace
from lutra.tables import LatencyTable
from lutra.tables.states import visits_in_one_state


@dataclass(frozen=True)
class Measured:
    """Networks with their latency (N,) in ms, and the mean half-to-half difference in percent.

    ``process_ms`` (N, processes) is what each took in each process; NaN where it did not run.
    ``drifted`` of them were measured only while the machine was slower than the table's.
    """

    architectures: list[Architecture]
    measured_ms: Floats
    process_ms: Floats
    repeatability_percent: float
    drifted: int

    @property
    def resolutions(self) -> list[int]:
        """Those of the networks, in pixels, sorted."""
        return sorted({architecture.r for architecture in self.architectures})

    def rows(self, space: SearchSpace) -> Rows:
        """(N, genes): the architectures."""
        return np.stack([space.encode(architecture) for architecture in self.architectures])


def collected(table: LatencyTable, architectures: Sequence[Architecture]) -> Measured:
    """The networks that were measured; where most of them were steady, only those.

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
    brought = visits_in_one_state(table, "network")
    visits = [brought.get(key, ()) for key in keys]
    known = [half for seen in visits if (half := repeatability_percent(seen)) is not None]
    measured_ms = np.array([rows[key].latency_ms for key in keys])
    return Measured(
        used,
        measured_ms,
        measured_ms[:, None] * padded([process_ratios(seen) for seen in visits]),
        float(np.mean(known)) if known else float("nan"),
        drifted=sum(1 for key in keys if rows[key].flags),
    )
