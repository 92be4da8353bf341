"""Which ops to measure, where not all are: those that say most about networks."""

# docs/decisions.md: Ops that were not measured

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from lutra.ops import OpConfig
from lutra.predictors.filling.nodes import Floats, OpNodes
from lutra.predictors.filling.process import Baseline, Scales
from lutra.spaces import SearchSpace, sample_networks

_NETWORKS = 300
_SEED = 4


def most_informative(
    space: SearchSpace,
    resolutions: Sequence[int],
    count: int,
    known: Collection[str] = (),
    networks: int = 20,
) -> list[OpConfig]:
    """``count`` ops of a space at these resolutions, those with ``known`` keys among them first.

    One after another, each the one whose measurement leaves the least variance in what random
    networks take (the A-optimal design of Krause et al. 2008, greedily), given what is usually
    known of ops before any is measured, and that so many ``networks`` are measured too: they tell
    sums, so that ops are to tell what sums do not. Both sides of a cliff are measured where
    networks stand on both.
    """
    ops = space.ops_at(resolutions)
    drawn = sample_networks(space, resolutions, _NETWORKS, _SEED)
    rows = np.stack([space.encode(network) for network in drawn])
    counts = space.op_counts(rows)[:, space.op_indices_at(resolutions)]
    first = [index for index, op in enumerate(ops) if op.key in known]
    indices = chosen(OpNodes.of(ops), counts, min(count, len(ops)), first, networks)
    return [ops[index] for index in indices]


def chosen(
    nodes: OpNodes, counts: Floats, count: int, first: Sequence[int] = (), measured: int = 0
) -> list[int]:
    """Indices of ``count`` ops, those of ``first`` before all; ``counts`` is (networks, ops).

    The first so many ``measured`` networks stand for those that are.
    """
    totals = np.asarray(nodes.counts.sum(axis=0)) @ nodes.quantities
    baseline = Baseline.at(nodes.counts, nodes.quantities, 1.0 / totals)
    scales = Scales()
    covariance = baseline.covariance(scales.covariance(nodes.alikeness))  # (ops, ops)
    weights = counts * baseline.latency_ms
    weights /= weights.sum(axis=1, keepdims=True)
    noise, found = scales.noise**2, list[int]()
    for network in weights[:measured]:  # others will be, but they say as much
        along = covariance @ network
        covariance -= np.outer(along, along) / (network @ along + noise)
    of_networks = weights @ covariance  # (networks, ops): kept up, as making it anew takes longest
    for index in (*first, *[-1] * (count - len(first))):
        variances = np.diag(covariance) + noise
        if index < 0:
            gains = (of_networks**2).sum(axis=0) / variances
            gains[found] = -1.0
            index = int(gains.argmax())
        found.append(index)
        deviation = np.sqrt(variances[index])
        along = covariance[:, index] / deviation
        of_networks -= np.outer(of_networks[:, index] / deviation, along)
        covariance -= np.outer(along, along)
    return found
