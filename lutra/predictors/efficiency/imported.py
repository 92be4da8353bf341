"""Imported tables: an op has a latency of its own at each resolution, and no interval."""

from __future__ import annotations

import numpy as np

from lutra.predictors.efficiency.composition import Floats
from lutra.spaces import SearchSpace
from lutra.spaces.by_resolution import by_resolution
from lutra.tables import LatencyTable


def priced_space(table: LatencyTable, space: SearchSpace) -> tuple[SearchSpace, Floats]:
    """The space as a table has prices for it, and what each of its ops takes alone (ops,), in ms.

    NaN where the table does not know it.
    """
    if not table.target.is_imported:
        known = table.op_latencies()
        return space, np.array([known.get(op.key, np.nan) for op in space.ops])
    apart = by_resolution(space)
    imported = table.imported_latencies()
    keys = zip((op.key for op in apart.ops), apart.op_resolutions, strict=True)
    return apart, np.array([imported.get(key, np.nan) for key in keys])


def origin_of(table: LatencyTable) -> str | None:
    """What to say of predictions by an imported table; None for one that lutra measured."""
    if not table.target.is_imported:
        return None
    files = sorted({row.imported.file for row in table.rows("op") if row.imported})
    others = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (
        f"the table was imported ({next(iter(files), 'no file')}{others}) and is not calibrated:"
        " latencies are plain sums, as its authors' estimator makes them; how far off they are is"
        " not known"
    )
