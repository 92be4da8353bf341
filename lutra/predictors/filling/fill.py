"""Ops that were not measured, from those that were."""

# docs/decisions.md: Ops that were not measured

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lutra.ops import OpConfig
from lutra.predictors.filling.nodes import Floats, OpNodes
from lutra.predictors.filling.process import Baseline, Seen, most_likely_scales, posterior
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable
from lutra.tables.measurement import FILLED_REACH, Filled

LEAST_OPS = 3  # to tell others from
_LEAST_SHARE = 0.1  # of its baseline that an op is said to take


def fill_in(table: LatencyTable, space: SearchSpace, resolutions: Sequence[int]) -> None:
    """Fill in the ops of a space that a table, open for writing, lacks at these resolutions.

    Ops that failed stay without a latency. Where fewer than `LEAST_OPS` are known nothing is
    filled in, and what was before is withdrawn.
    """
    rows = {row.key: row for row in table.rows("op")}
    ops = [op for op in space.ops_at(resolutions) if op.key not in rows or not rows[op.key].failure]
    latencies_ms = table.op_latencies()
    known = sum(op.key in latencies_ms for op in ops)
    found = filled_from_ops(ops, latencies_ms) if known >= LEAST_OPS else {}
    own = {op.key for op in space.ops}
    table.fill({**{key: each for key, each in table.filled().items() if key not in own}, **found})


def filled_from_ops(
    ops: Sequence[OpConfig], latencies_ms: Mapping[str, float]
) -> dict[str, Filled]:
    """What the ops that have no latency yet would take, by their keys: with an interval that 95 %
    of them are in.

    ``latencies_ms`` has at least `LEAST_OPS` of the ``ops``, by key.
    """
    measured = [index for index, op in enumerate(ops) if op.key in latencies_ms]
    missing = [index for index, op in enumerate(ops) if op.key not in latencies_ms]
    if not missing:
        return {}
    nodes = OpNodes.of(ops)
    seen_ms = np.array([latencies_ms[ops[index].key] for index in measured])
    baseline = Baseline.fitted(nodes.counts[measured], nodes.quantities, seen_ms)
    seen = Seen(baseline, seen_ms)
    asked = Baseline.at(nodes.counts[missing], nodes.quantities, baseline.paces)
    found = posterior(seen, asked, nodes, most_likely_scales(seen, nodes))
    filled = as_filled(asked, found.departures, found.deviations, len(measured))
    return dict(zip((ops[index].key for index in missing), filled, strict=True))


def as_filled(
    baseline: Baseline, departures: Floats, deviations: Floats, rows: int
) -> list[Filled]:
    """Records of what ops take: (ops,) and relative to their baseline; told from so many rows."""
    expected = baseline.latency_ms * np.maximum(1.0 + departures, _LEAST_SHARE)
    reach = FILLED_REACH * baseline.latency_ms * deviations
    least = _LEAST_SHARE * baseline.latency_ms
    return [
        Filled(float(middle), float(max(middle - half, low)), float(middle + half), rows)
        for middle, half, low in zip(expected, reach, np.minimum(least, expected), strict=True)
    ]
