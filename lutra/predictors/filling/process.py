"""Latencies as a Gaussian process over nodes: what some are says how far off others may be.

Every op has a baseline, so many ms per multiply-accumulate, byte and kernel, none negative: more
work never takes less. By how much, relatively, each kind of node departs from its baseline is a
Gaussian process (Rasmussen & Williams 2006); an op departs by the mean of its nodes, weighted by
their share of its baseline. What was seen, of ops or of whole networks, is a sum of nodes, so that
one conditioning serves both. How alike nodes are is what makes what was seen most likely, starting
from what is usual: few numbers change little.
"""

# docs/decisions.md: Ops that were not measured

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lutra.predictors.filling.nodes import Alikeness, Floats, OpNodes

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Bools = npt.NDArray[np.bool_]
# What is usual, and the standard deviation of its logarithm: how far windows and alignments set
# nodes apart (exponents), how far nodes depart from the baseline: smoothly over sizes, all of an
# operation together, all of one operation and alignment together, and each node for itself; over
# how many doublings of a size; and how far what was measured is off by itself.
_USUAL = {
    "window": (0.3, 0.8),
    "alignment": (0.3, 0.8),
    "smooth": (0.2, 0.8),
    "operation": (0.4, 0.8),
    "aligned": (0.4, 0.8),
    "own": (0.05, 0.8),
    "doublings": (2.0, 0.5),
    "noise": (0.015, 0.7),
}
_MOST_DEVIATIONS = 3.0
_MOST_STEPS = 25
_MOST_SEEN = 100  # what the likelihood is asked of; more take long and say the same
_EQUAL_SHARES = 0.1  # how much the guess that work, bytes and kernels cost alike weighs
_LEAST_SHARE = 0.003  # of a latency that each of them has: no node takes no time
_SUPPOSED = 4.0  # rows' worth of the supposition that departures are as likely as they are said
# What 95 % of errors are within, in standard deviations: those of a Student distribution of 4
# degrees of freedom, since cliffs make some errors large; and more where few rows were seen.
_TAIL = 2.776
_NORMAL = 1.96
_LEARNT = 4.0  # numbers that are learnt from the rows, in effect


@dataclass(frozen=True)
class Scales:
    """How alike nodes are: the logarithms of the numbers that `_USUAL` names, in its order."""

    values: Floats = field(default_factory=lambda: np.log([usual for usual, _ in _USUAL.values()]))

    def covariance(self, alike: Alikeness) -> Floats:
        """(nodes, nodes): of the relative departures from their baselines."""
        window, alignment, smooth, operation, aligned, own, doublings, _ = np.exp(self.values)
        near = np.exp(-alike.squared_distance / (2.0 * doublings**2) - alignment * alike.alignment)
        among = operation**2 + aligned**2 * (alike.alignment == 0) + smooth**2 * near
        result: Floats = alike.same_operation * np.exp(-window * alike.other_window) * among
        result[np.diag_indices(len(result))] += own**2
        return result

    def slopes(self, alike: Alikeness, weights: Floats) -> Floats:
        """By how much ``(weights * self.covariance(alike)).sum()`` grows with each of the values.

        ``weights`` are (nodes, nodes), the answer is (values,).
        """
        window, alignment, smooth, operation, aligned, own, doublings, _ = np.exp(self.values)
        distance = alike.squared_distance
        near = np.exp(-distance / (2.0 * doublings**2) - alignment * alike.alignment)
        weighted = weights * alike.same_operation * np.exp(-window * alike.other_window)
        smoothly = smooth**2 * weighted * near
        alone, at_once = operation**2 * weighted, aligned**2 * weighted * (alike.alignment == 0)
        return np.array(
            [
                -window * ((alone + at_once + smoothly) * alike.other_window).sum(),
                -alignment * (smoothly * alike.alignment).sum(),
                2.0 * smoothly.sum(),
                2.0 * alone.sum(),
                2.0 * at_once.sum(),
                2.0 * own**2 * np.trace(weights),
                (smoothly * distance).sum() / doublings**2,
                0.0,
            ]
        )

    @property
    def noise(self) -> float:
        return float(np.exp(self.values[-1]))


@dataclass(frozen=True, eq=False)
class Baseline:
    """What nodes take at ``paces`` (3,), ms per MAC, byte and kernel, and ``constant_ms`` beside.

    ``latency_ms`` (rows,) is that of ops or networks, ``shares`` (rows, nodes), sparse, what each
    node has of it. ``unsure`` (rows,) is the standard deviation of each row's departure beside
    what its nodes depart by.
    """

    paces: Floats
    constant_ms: float
    latency_ms: Floats
    shares: csr_array
    unsure: Floats

    @classmethod
    def at(
        cls, counts: csr_array, quantities: Floats, paces: Floats, constant_ms: float = 0.0
    ) -> Baseline:
        """Of rows that consist of nodes (rows, nodes) as often as ``counts`` says."""
        nodes_ms = counts.multiply(quantities @ paces).tocsr()
        latency_ms = np.asarray(nodes_ms.sum(axis=1)).ravel() + constant_ms
        shares = nodes_ms.multiply(1.0 / latency_ms[:, None]).tocsr()
        return cls(paces, constant_ms, latency_ms, shares, np.zeros(len(latency_ms)))

    @classmethod
    def fitted(
        cls, counts: csr_array, quantities: Floats, seen_ms: Floats, *, constant: bool = False
    ) -> Baseline:
        """With the paces that come nearest to what rows took (rows,), by relative errors.

        With ``constant`` what each row takes beside its nodes is told too, as for networks.
        """
        from scipy.optimize import nnls

        amounts = counts @ quantities
        if constant:
            amounts = np.hstack([amounts, np.ones((len(amounts), 1))])
        design = amounts / seen_ms[:, None]
        size = design.mean(axis=0)
        weight = _EQUAL_SHARES * np.sqrt(len(design))
        guess = np.diag(size) * weight
        goal = np.full(len(size), weight / len(size))
        found, _ = nnls(np.vstack([design, guess]), np.concatenate([np.ones(len(design)), goal]))
        paces = np.maximum(found[:3], _LEAST_SHARE / size[:3])
        return cls.at(counts, quantities, paces, float(found[3]) if constant else 0.0)

    def covariance(self, of_nodes: Floats) -> Floats:
        """(nodes, nodes) -> (rows, rows): of relative departures from this."""
        result: Floats = self.shares @ (self.shares @ of_nodes).T
        result[np.diag_indices(len(result))] += self.unsure**2
        return result


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known: rows of the ``baseline`` and what each took, ``latency_ms`` (rows,)."""

    baseline: Baseline
    latency_ms: Floats

    def and_also(self, asked: Baseline, chosen: Bools, latency_ms: Floats) -> Seen:
        """These, and behind them the chosen rows of another baseline of the same paces."""
        from scipy.sparse import vstack

        own = self.baseline
        both = replace(
            own,
            latency_ms=np.concatenate([own.latency_ms, asked.latency_ms[chosen]]),
            shares=vstack([own.shares, asked.shares[chosen]]).tocsr(),
            unsure=np.concatenate([own.unsure, asked.unsure[chosen]]),
        )
        return Seen(both, np.concatenate([self.latency_ms, latency_ms[chosen]]))

    @property
    def departures(self) -> Floats:
        """(rows,): relative to the baseline."""
        result: Floats = self.latency_ms / self.baseline.latency_ms - 1.0
        return result


def most_likely_scales(seen: Seen, nodes: OpNodes) -> Scales:
    """The scales under which what was seen is most likely, and usual."""
    from scipy.optimize import minimize

    rows = np.linspace(0, len(seen.latency_ms) - 1, min(len(seen.latency_ms), _MOST_SEEN))
    chosen = np.unique(rows.round().astype(np.int64))
    some, departures = seen.baseline.shares[chosen], seen.departures[chosen]
    used = np.unique(some.indices).astype(np.int64)
    shares, alike = some[:, used].toarray(), nodes.alikeness.take(used)
    unsure = seen.baseline.unsure[chosen] ** 2
    usual = Scales().values
    deviations = np.array([deviation for _, deviation in _USUAL.values()])

    def unlikely(values: Floats) -> tuple[float, Floats]:
        """How unlikely what was seen is, and its slopes (Rasmussen & Williams, equation 5.9)."""
        scales = Scales(values)
        covariance = shares @ scales.covariance(alike) @ shares.T
        covariance[np.diag_indices(len(covariance))] += scales.noise**2 + unsure
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return float(np.finfo(np.float64).max), np.zeros(len(values))
        explained = np.linalg.solve(factor, departures)
        unusual = (values - usual) / deviations
        inverse = np.linalg.inv(covariance)
        told = inverse @ departures
        weights = 0.5 * (inverse - np.outer(told, told))
        slopes = scales.slopes(alike, shares.T @ weights @ shares) + unusual / deviations
        slopes[-1] += 2.0 * scales.noise**2 * np.trace(weights)
        unlikeliness = (
            0.5 * explained @ explained + np.log(np.diag(factor)).sum() + 0.5 * unusual @ unusual
        )
        return float(unlikeliness), slopes

    reach = _MOST_DEVIATIONS * deviations
    bounds = list(zip(usual - reach, usual + reach, strict=True))
    found = minimize(
        unlikely,
        usual,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _MOST_STEPS},
    )
    return Scales(found.x)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is expected of rows given what was seen, each (rows,) and relative to their baseline:
    ``departures`` and their ``deviations``: standard ones of the normal distribution that has 95 %
    where such rows do, wider where what was seen departs more from each other than is said.

    ``left_out`` (rows that were seen,) is how far each departs from what all others say of it.
    """

    departures: Floats
    deviations: Floats
    left_out: Floats


def posterior(seen: Seen, asked: Baseline, nodes: OpNodes, scales: Scales) -> Posterior:
    """Condition on what was seen."""
    covariance = scales.covariance(nodes.alikeness)
    among = asked.shares @ covariance  # (asked, nodes)
    prior = np.asarray(asked.shares.multiply(among).sum(axis=1)).ravel() + asked.unsure**2
    between = (seen.baseline.shares @ among.T).T  # (asked, seen)
    of_seen = seen.baseline.covariance(covariance)
    of_seen[np.diag_indices(len(of_seen))] += scales.noise**2
    inverse = np.linalg.inv(of_seen)
    weights = between @ inverse  # (asked, seen)
    left = prior - (weights * between).sum(axis=1) + scales.noise**2
    errors, deviations = _left_out(inverse, seen.departures)
    wider = _reach((errors / deviations) ** 2) * np.sqrt(np.maximum(left, 0.0))
    return Posterior(weights @ seen.departures, wider, errors)


def _reach(squares: Floats) -> float:
    """How many times as far as is said errors are, by the ``squares`` (rows,) of those seen.

    docs/decisions.md: How sure what was filled in is
    """
    seen = max(1.0, (squares.sum() + _SUPPOSED) / (len(squares) + _SUPPOSED))
    return float(_TAIL / _NORMAL * np.sqrt(seen * (1.0 + _LEARNT / len(squares))))


def _left_out(inverse: Floats, departures: Floats) -> tuple[Floats, Floats]:
    """(rows,): how far each departs from what all others say, and by how much it would.

    Rasmussen & Williams, equations 5.10 to 5.12; ``inverse`` is that of the covariance.
    """
    precisions = np.diag(inverse)
    return (inverse @ departures) / precisions, 1.0 / np.sqrt(precisions)
