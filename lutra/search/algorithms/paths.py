"""The best paths of lattices under limits, and a bound on what any other path could score.

A partial path is a label: what it scores and costs so far. With multipliers m >= 0 of the limits,
no completion of a label scores more than its score + m . (the room - its costs) + the largest sum
of (score - m . cost) over all ways on: Lagrange's bound, which one pass over the edges gives for
every node. Labels whose bound is not above the worst path to be kept are dropped, so what is left
at the end holds the best paths: Handler and Zang, "A dual algorithm for the constrained shortest
path problem" (Networks, 1980).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.spaces import Lattice, Rows

Floats = npt.NDArray[np.float64]

SLACK = 1e-9
"""Relative to scores and limits: far above the rounding of sums, far below what matters."""

# The search for multipliers: along one axis or in a plane, from 1e-6 to 1e6 times the best so far
# and then nearer to it; never less than a share of the scores' span.
_TRIED = {1: 33, 2: 17}
_RANGE = float(np.log(1e6))
_FINER = 6.0
_ROUNDS, _ROUNDS_OF_MANY = 6, 3
_LEAST = 1e-9
_AROUND = (1.0, 0.7, 1.4, 0.4, 2.0, 0.0)  # multipliers that suit labels far from the optimum


class Found(NamedTuple):
    """What is left at the end: ``rows`` (N, genes), their scores (N,), and what was given up.

    No path but those of ``rows`` scores more than the floor, except paths that were ``cut`` for
    want of places: they score at most that, minus infinity where there were none.
    """

    rows: Rows
    scores: Floats
    cut: float


class Labels(NamedTuple):
    """Partial paths that end in one node.

    Scores (N,), costs (N, limits), places of the labels before (N,), edges since then (N,).
    """

    scores: Floats
    costs: Floats
    before: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]

    def at(self, places: npt.NDArray[np.int64]) -> Labels:
        """Those labels only, in that order."""
        return Labels(
            self.scores[places], self.costs[places], self.before[places], self.edges[places]
        )


# docs/decisions.md: Exact search on the lattice
@dataclass(frozen=True, eq=False)
class Paths:
    """The paths of a lattice, with a score to maximise and costs that must fit into a room.

    ``scores`` is (edges,), ``costs`` (edges, limits), ``room`` (limits,) is what a path's costs may
    add up to, scaled so that 1 is a lot. ``start`` is every path's score before its first edge.
    ``guess`` are multipliers that suit the first limits. An edge with a NaN is not used.
    """

    lattice: Lattice
    scores: Floats
    costs: Floats
    room: Floats
    start: float = 0.0
    guess: Floats | None = None

    def __post_init__(self) -> None:
        unknown = ~(np.isfinite(self.scores) & np.isfinite(self.costs).all(axis=1))
        object.__setattr__(self, "scores", np.where(unknown, -np.inf, self.scores))
        object.__setattr__(self, "costs", np.where(unknown[:, None], 0.0, self.costs))

    def with_limit(self, costs: Floats, room: float) -> Paths:
        """The same paths under one more limit, of costs (edges,)."""
        more = np.concatenate([self.costs, costs[:, None]], axis=1)
        room_of_all = np.append(self.room, room)
        return Paths(self.lattice, self.scores, more, room_of_all, self.start, self.dual[1])

    def ways_on(self, multipliers: Floats) -> Floats:
        """(M, limits) -> (nodes, M): the largest score - multipliers . costs up to the end."""
        return self.lattice.best_ways_on(self.scores[:, None] - self.costs @ multipliers.T)

    @cached_property
    def least_costs(self) -> Floats:
        """(nodes, limits): the least that each cost adds on the way to the end."""
        usable = np.isfinite(self.scores)[:, None]
        return -self.lattice.best_ways_on(np.where(usable, -self.costs, -np.inf))

    @cached_property
    def span(self) -> float:
        """How far the scores of paths lie apart, whatever they cost."""
        usable = np.isfinite(self.scores)
        ends = np.stack([self.scores, np.where(usable, -self.scores, -np.inf)], axis=1)
        return max(float(self.lattice.best_ways_on(ends)[0].sum()), SLACK)

    @cached_property
    def dual(self) -> tuple[float, Floats]:
        """A bound on every path that fits, and the multipliers (limits,) that give it.

        Any multipliers give one. These are nearly the best: each round tries some around the best
        so far, nearer to it than the round before.
        """
        limits = len(self.room)
        if (self.least_costs[0] > self.room + SLACK).any():
            return -np.inf, np.zeros(limits)
        if not limits:
            return self.start + float(self.ways_on(np.zeros((1, 0)))[0, 0]), np.zeros(0)
        best, lowest = np.full(limits, self.span), np.inf
        if self.guess is not None:
            best[: len(self.guess)] = self.guess
        for width in _RANGE / _FINER ** np.arange(_ROUNDS if limits <= 2 else _ROUNDS_OF_MANY):
            for axes in _planes(limits):
                tried = _around(best, axes, width)
                bounds = self.start + tried @ self.room + self.ways_on(tried)[0]
                place = int(bounds.argmin())
                if bounds[place] < lowest:
                    lowest, best = float(bounds[place]), tried[place].clip(_LEAST * self.span)
        return lowest, best

    def above(self, floor: float, places: int) -> Found:
        """The paths that fit and score more than ``floor``; a node keeps ``places`` labels."""
        around = np.outer(_AROUND, self.dual[1])
        ways_on = self.ways_on(around)
        labels = {0: self.start_label}
        cut = -np.inf
        for target in range(1, self.lattice.nodes):
            coming = self.coming(labels, target)
            kept = coming.at(np.flatnonzero(self.fit(coming, target)))
            bounds = np.full(len(kept.scores), np.inf)
            for multipliers, on in zip(around, ways_on[target], strict=True):
                spare = (self.room - kept.costs) @ multipliers
                bounds = np.minimum(bounds, kept.scores + spare + on)
                above = np.flatnonzero(bounds > floor)
                kept, bounds = kept.at(above), bounds[above]
            if len(bounds) > places:
                order = np.argpartition(-bounds, places)
                cut = max(cut, float(bounds[order[places:]].max()))
                kept = kept.at(order[:places])
            labels[target] = kept
        return Found(self.rows(labels), labels[self.lattice.nodes - 1].scores, cut)

    @property
    def start_label(self) -> Labels:
        """The one label of the first node."""
        nothing = np.zeros(1, dtype=np.int64)
        return Labels(np.array([self.start]), np.zeros((1, len(self.room))), nothing, nothing)

    def fit(self, labels: Labels, node: int) -> npt.NDArray[np.bool_]:
        """(N,): which labels at a node could still meet each limit by itself."""
        least = labels.costs + self.least_costs[node]
        fits: npt.NDArray[np.bool_] = (least <= self.room + SLACK).all(axis=1)
        return fits

    def coming(self, labels: dict[int, Labels], target: int) -> Labels:
        """The labels at all nodes before ``target``, each with each edge from there."""
        parts = []
        for source, _, edges in self.lattice.bundles[target]:
            scores, costs = labels[source][:2]
            parts.append(
                Labels(
                    (scores[:, None] + self.scores[edges]).ravel(),
                    np.repeat(costs, len(edges), axis=0)
                    + np.tile(self.costs[edges], (len(scores), 1)),
                    np.repeat(np.arange(len(scores)), len(edges)),
                    np.tile(edges, len(scores)),
                )
            )
        if len(parts) == 1:
            return parts[0]
        return Labels(*map(np.concatenate, zip(*parts, strict=True)))

    def rows(self, labels: dict[int, Labels]) -> Rows:
        """(N, genes): those of the labels at the end, by their edges backwards."""
        last = self.lattice.nodes - 1
        count = len(labels[last].scores)
        rows = np.zeros((count, self.lattice.genes), dtype=np.int16)
        node, place = np.full(count, last), np.arange(count)
        for target in range(last, 0, -1):
            here = np.flatnonzero(node == target)
            edges = labels[target].edges[place[here]]
            rows[here] += self.lattice.edge_genes[edges]
            place[here] = labels[target].before[place[here]]
            node[here] = self.lattice.sources[edges]
        return rows


def _planes(limits: int) -> list[tuple[int, ...]]:
    """Which multipliers are tried together: the first with each other one."""
    return [(0, other) for other in range(1, limits)] or [(0,)] * limits


def _around(multipliers: Floats, axes: tuple[int, ...], width: float) -> Floats:
    """(M, limits): the multipliers with those of ``axes`` smaller and larger, by e^width at most.

    And with each of them at 0.
    """
    steps = np.append(np.exp(np.linspace(-width, width, _TRIED[len(axes)])), 0.0)
    factors = np.array(list(product(steps, repeat=len(axes))))
    tried = np.repeat(multipliers[None, :], len(factors), axis=0)
    tried[:, list(axes)] *= factors
    return tried
