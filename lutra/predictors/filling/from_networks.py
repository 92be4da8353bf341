"""Ops from whole networks alone: for devices that time nothing smaller.

Each network is a sum of its ops' nodes and of something that every network takes; which node takes
what is told as for ops that were not measured (`process.py`). An op's own interval is wide, since
networks hardly tell ops apart that always come together; of networks it is as narrow as those left
out show.
"""

# docs/decisions.md: Ops that were not measured

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lutra.errors import TableError
from lutra.predictors.efficiency.composition import Composition
from lutra.predictors.efficiency.fitting import Fit, process_interval_percent
from lutra.predictors.filling.fill import as_filled
from lutra.predictors.filling.nodes import Floats, OpNodes
from lutra.predictors.filling.process import (
    Baseline,
    Posterior,
    Seen,
    most_likely_scales,
    posterior,
)
from lutra.spaces import Rows, SearchSpace
from lutra.tables.measurement import Filled

LEAST_NETWORKS = 20
_LEAST_SHARE = 0.1  # of its baseline that an op takes
_CLOSE = 0.02


def solve_networks(
    space: SearchSpace,
    resolutions: Sequence[int],
    rows: Rows,
    measured_ms: Floats,
    process_ms: Floats,
) -> tuple[dict[str, Filled], Fit]:
    """What the ops at these resolutions take, by their keys, and how far off sums of them are.

    ``rows`` (N, genes) are the networks that took ``measured_ms`` (N,), and ``process_ms`` (N,
    processes) in each process. The fit's errors are of each network as the others say it
    is. Raises `TableError` for fewer than 20 networks.
    """
    if len(rows) < LEAST_NETWORKS:
        raise TableError(
            f"{len(rows)} networks cannot tell what ops take; {LEAST_NETWORKS} is the least, and a"
            f" few hundred serve: the ops of {space.name} at these resolutions are"
            f" {len(space.op_indices_at(resolutions))}"
        )
    from scipy.sparse import csr_array

    indices = space.op_indices_at(resolutions)
    nodes = OpNodes.of([space.ops[index] for index in indices])
    of_networks = csr_array(space.op_counts(rows)[:, indices]) @ nodes.counts
    baseline = Baseline.fitted(of_networks, nodes.quantities, measured_ms, constant=True)
    seen = Seen(baseline, measured_ms)
    asked = Baseline.at(nodes.counts, nodes.quantities, baseline.paces)
    found = _none_negative(seen, asked, nodes)
    filled = as_filled(asked, found.departures, found.deviations, len(rows))
    left_out_ms = measured_ms - found.left_out[: len(rows)] * baseline.latency_ms
    keys = (space.ops[index].key for index in indices)
    fit = _fit(baseline, measured_ms, left_out_ms, process_ms)
    return dict(zip(keys, filled, strict=True)), fit


def _none_negative(seen: Seen, asked: Baseline, nodes: OpNodes) -> Posterior:
    """What is expected of ops that all take some time: the sums stay those of the networks.

    Networks hardly tell ops apart that come together, and one of them may come out below nothing.
    Raised alone it would make all networks slower (an active set, as for non-negative least
    squares).
    """
    scales = most_likely_scales(seen, nodes)
    least_ms = _LEAST_SHARE * asked.latency_ms
    held = np.zeros(len(least_ms), dtype=bool)
    while True:
        found = posterior(seen.and_also(asked, held, least_ms), asked, nodes, scales)
        below = (found.departures < _LEAST_SHARE - 1.0 - _CLOSE) & ~held
        if not below.any():
            return found
        held |= below


def _fit(baseline: Baseline, measured_ms: Floats, left_out_ms: Floats, process_ms: Floats) -> Fit:
    absolute = 100.0 * np.abs(left_out_ms / measured_ms - 1.0)
    plain = 100.0 * np.abs(baseline.latency_ms / measured_ms - 1.0)
    return Fit(
        composition=Composition(constant_ms=baseline.constant_ms),
        launch=None,
        terms=(),
        launch_terms=(),
        networks=len(measured_ms),
        cv_mape_percent=float(absolute.mean()),
        cv_p95_percent=float(np.quantile(absolute, 0.95)),
        sum_mape_percent=float(plain.mean()),
        interval_percent=process_interval_percent(
            left_out_ms, process_ms, np.ones(len(measured_ms))
        ),
        elsewhere_percent=None,
        spread=None,
    )
