"""What a table has for each op: measured, filled in, or imported at each resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lutra.predictors.efficiency.composition import Floats
from lutra.spaces import SearchSpace
from lutra.spaces.by_resolution import by_resolution
from lutra.tables import LatencyTable, Row
from lutra.tables.measurement import Filled


def priced_space(
    table: LatencyTable, rows: Sequence[Row], space: SearchSpace
) -> tuple[SearchSpace, Floats]:
    """The space as a table has prices for it, and what each of its ops takes alone (ops,), in ms.

    ``rows`` are the table's of ops; NaN where it does not know one.
    """
    imported = table.imported_latencies() if table.target.is_imported else {}
    if not imported:
        found = {row.key: row.measurement or row.filled for row in rows}
        known = {key: each.latency_ms for key, each in found.items() if each}
        return space, np.array([known.get(op.key, np.nan) for op in space.ops])
    apart = by_resolution(space)
    keys = zip((op.key for op in apart.ops), apart.op_resolutions, strict=True)
    return apart, np.array([imported.get(key, np.nan) for key in keys])


def filled_deviations(filled: Mapping[str, Filled], space: SearchSpace) -> Floats | None:
    """(ops,): standard deviations of what was filled in, in ms, else 0; None where nothing was."""
    if not filled:
        return None
    found = [filled.get(op.key) for op in space.ops]
    return np.array([each.deviation_ms if each else 0.0 for each in found])


def origin_of(table: LatencyTable) -> str | None:
    """What to say of predictions by a table of others' numbers; None for what lutra measured."""
    if not table.target.is_imported:
        return None
    rows = [row for row in table.rows() if row.imported]
    files = sorted({row.imported.file for row in rows if row.imported})
    others = f" and {len(files) - 1} more" if len(files) > 1 else ""
    if all(row.category == "network" for row in rows):
        file = next(iter(files), "no file")
        return f"solved from {len(rows)} whole networks of {file}: no op was measured by itself"
    return (
        f"the table was imported ({next(iter(files), 'no file')}{others}) and is not calibrated:"
        " latencies are plain sums, as its authors' estimator makes them; how far off they are is"
        " not known"
    )
