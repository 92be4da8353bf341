"""Ops that were not measured, from those that were."""

# docs/decisions.md: Ops that were not measured

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lutra.ops import OpConfig
from lutra.predictors.filling.nodes import Floats, OpNodes
from lutra.predictors.filling.prior import Prior, PriorUse, read_prior, store_prior
from lutra.predictors.filling.process import Baseline, Seen, most_likely_scales, posterior
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable
from lutra.tables.measurement import FILLED_REACH, Filled

LEAST_OPS = 3  # to tell others from
_LEAST_SHARE = 0.1  # of its baseline that an op is said to take


class FilledOps(NamedTuple):
    """What ops would take that were not measured, by key, and what came of a prior, if any."""

    filled: dict[str, Filled]
    use: PriorUse | None


def fill_in(table: LatencyTable, space: SearchSpace, resolutions: Sequence[int]) -> None:
    """Fill in the ops of a space that a table, open for writing, lacks at these resolutions.

    Ops that failed stay without a latency. A prior that the table keeps helps, where it does.
    Where fewer than `LEAST_OPS` are known nothing is filled in, and what was before is withdrawn.
    """
    rows = {row.key: row for row in table.rows("op")}
    ops = [op for op in space.ops_at(resolutions) if op.key not in rows or not rows[op.key].failure]
    latencies_ms = table.op_latencies()
    known = sum(op.key in latencies_ms for op in ops)
    prior = read_prior(table, space.name)
    found = FilledOps({}, None)
    if known >= LEAST_OPS:
        found = filled_from_ops(ops, latencies_ms, prior and _completed(prior, space, ops))
    own = {op.key for op in space.ops}
    others = {key: each for key, each in table.filled().items() if key not in own}
    table.fill({**others, **found.filled})
    if prior is not None and found.use is not None:
        store_prior(table, space.name, replace(prior, use=found.use))


def _completed(prior: Prior, space: SearchSpace, asked: Sequence[OpConfig]) -> Prior | None:
    """A prior of all ops that are asked about, from those that it knows; None of too few."""
    if all(op.key in prior.latencies_ms for op in asked):
        return prior
    if len(prior.latencies_ms) < LEAST_OPS:
        return None
    wanted = {op.key for op in asked} | prior.latencies_ms.keys()
    ops = [op for op in space.ops if op.key in wanted]
    return prior.with_filled(filled_from_ops(ops, prior.latencies_ms).filled)


def filled_from_ops(
    ops: Sequence[OpConfig], latencies_ms: Mapping[str, float], prior: Prior | None = None
) -> FilledOps:
    """What the ops that have no latency yet would take: with an interval that 95 % of them are in.

    ``latencies_ms`` has at least `LEAST_OPS` of the ``ops``, by key. A ``prior`` that knows all
    ops is taken where that leaves the others less unsure.
    """
    measured = [op for op in ops if op.key in latencies_ms]
    missing = [op for op in ops if op.key not in latencies_ms]
    if not missing:
        return FilledOps({}, None)
    nodes = OpNodes.of([*measured, *missing])
    seen_ms = np.array([latencies_ms[op.key] for op in measured])
    of_seen, of_missing = nodes.counts[: len(measured)], nodes.counts[len(measured) :]
    plain = Baseline.fitted(of_seen, nodes.quantities, seen_ms)
    asked = Baseline.at(of_missing, nodes.quantities, plain.paces)
    filled, use = _told(Seen(plain, seen_ms), asked, nodes), None
    if prior is not None:
        scale = prior.scale(measured, seen_ms)
        seen = Seen(prior.baseline(plain, measured, scale), seen_ms)
        by_prior = _told(seen, prior.baseline(asked, missing, scale), nodes)
        use = PriorUse(_unsure_percent(by_prior), _unsure_percent(filled))
        filled = by_prior if use.taken else filled
    return FilledOps(dict(zip((op.key for op in missing), filled, strict=True)), use)


def _told(seen: Seen, asked: Baseline, nodes: OpNodes) -> list[Filled]:
    found = posterior(seen, asked, nodes, most_likely_scales(seen, nodes))
    return as_filled(asked, found.departures, found.deviations, len(seen.latency_ms))


def _unsure_percent(filled: Sequence[Filled]) -> float:
    """Half of the interval of what was filled in, relative, in the median."""
    return float(100.0 * np.median([each.high_ms / each.latency_ms - 1.0 for each in filled]))


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
