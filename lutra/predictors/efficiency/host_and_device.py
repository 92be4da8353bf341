"""Networks by who holds them up: the device, or the host that launches its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from lutra.predictors.efficiency.composition import Floats, kernel_counts, op_features
from lutra.predictors.efficiency.launch import launch_latencies
from lutra.spaces import Architecture, Rows, SearchSpace, sample_networks
from lutra.tables import LatencyTable

_RARER_SHARE = 0.3  # of 20 networks enough for a scale and a constant
_POOL = 50  # random networks to choose one from
_POOL_SEED = 3
_LEAD_WEIGHTS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, eq=False)
class HostAndDevice:
    """What the device alone needs for each op of a space, and what the host does to launch it.

    Both are `op_features` (ops, terms); NaN for an op of which either is unknown.
    """

    space: SearchSpace
    device: Floats
    launch: Floats

    @classmethod
    def read(
        cls, table: LatencyTable, space: SearchSpace, alone_ms: Floats
    ) -> HostAndDevice | None:
        """From a table and its ops' latencies (ops,); None where it does not know both."""
        known = table.device_latencies()
        device_ms = np.array([known.get(op.key, np.nan) for op in space.ops])
        device_ms[np.isnan(alone_ms) | ~(device_ms > 0) | np.isinf(device_ms)] = np.nan
        launch_ms = launch_latencies(alone_ms, device_ms, kernel_counts(space.ops))
        if launch_ms is None:
            return None
        return cls(space, op_features(space.ops, device_ms), op_features(space.ops, launch_ms))

    def sums(self, rows: Rows) -> tuple[Floats, Floats]:
        """(N, genes) -> (N, terms) of device and of launches; NaN where an op is unknown."""
        return (
            network_sums(self.space, self.device, rows),
            network_sums(self.space, self.launch, rows),
        )

    def of_both_bounds(
        self, networks: list[Architecture], resolutions: Sequence[int]
    ) -> list[Architecture]:
        """As many networks, of which a share is held up by the device and a share by the host.

        Of random ``networks`` too few may be held up by one of the two to tell what it takes, and a
        search would find just those. Some of the other kind are replaced by the most extreme of
        many random networks and of the exact optima.
        """
        lead = self._lead(networks)
        launched = lead > 1.0
        rare = launched if 2 * launched.sum() < len(launched) else ~launched
        missing = int(_RARER_SHARE * len(networks)) - int(rare.sum())
        if missing <= 0 or np.isnan(lead).any():
            return networks
        pool = self._extremes(resolutions)
        pool += sample_networks(self.space, resolutions, _POOL * len(networks), _POOL_SEED)
        leads = self._lead(pool)
        order = np.argsort(-leads if rare is launched else leads, kind="stable")
        extreme = dict.fromkeys(pool[index] for index in order if pool[index] not in networks)
        common = [item for item, is_rare in zip(networks, rare, strict=True) if not is_rare]
        dropped = set(common[-missing:])
        return [item for item in networks if item not in dropped] + [*islice(extreme, missing)]

    def _lead(self, networks: Sequence[Architecture]) -> Floats:
        """(N,): what the host takes divided by what the device takes, as plain sums."""
        device, launch = self.sums(np.stack([self.space.encode(item) for item in networks]))
        lead: Floats = launch[:, 0] / device[:, 0]
        return lead

    def _extremes(self, resolutions: Sequence[int]) -> list[Architecture]:
        """Exact optima: networks where one of the two is as far ahead as can be."""
        device, launch = self.device[:, 0], self.launch[:, 0]
        rows = [
            self.space.lattice(resolution).cheapest(sign * (launch - weight * device))[1]
            for resolution in resolutions
            for weight in _LEAD_WEIGHTS
            for sign in (-1.0, 1.0)
        ]
        return [self.space.decode(row) for row in np.unique(np.stack(rows), axis=0)]


def network_sums(space: SearchSpace, features: Floats, rows: Rows) -> Floats:
    """(ops, terms) and (N, genes) -> (N, terms): the sum over each network's ops."""
    padded = np.vstack([features, np.zeros(features.shape[1])])
    summed: Floats = padded[space.op_indices(rows)].sum(axis=1)
    return summed
