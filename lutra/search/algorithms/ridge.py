"""An additive model of what is known of some rows: ridge regression on their genes' choices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lutra.spaces import Lattice, Rows, SearchSpace

Floats = npt.NDArray[np.float64]

_RIDGE = 1e-3
_RIDGE_OF_CONSTANT = 1e-9


class AdditiveModel:
    """A ``constant`` and a coefficient for each gene's every choice but its first."""

    def __init__(self, space: SearchSpace, rows: Rows, values: Floats, weights: Floats) -> None:
        """Fit it to canonical rows (N, genes), their ``values`` (N,) and ``weights`` (N,)."""
        first = np.cumsum([0, *(space.choice_counts - 1)])
        self._first = first[:-1]  # the feature of each gene's choice 1; choice 0 has none
        self._features = int(first[-1])
        design = self._design(rows)
        ridge = np.full(self._features + 1, _RIDGE)
        ridge[-1] = _RIDGE_OF_CONSTANT
        normal = design.T @ (design * weights[:, None]) + np.diag(ridge)
        self._coefficients: Floats = np.linalg.solve(normal, design.T @ (weights * values))

    @property
    def constant(self) -> float:
        """What a row has whose genes all have their first choice."""
        return float(self._coefficients[-1])

    def of(self, rows: Rows) -> Floats:
        """(N, genes) canonical rows -> (N,)."""
        values: Floats = self._design(rows) @ self._coefficients
        return values

    def edge_scores(self, lattice: Lattice) -> Floats:
        """(edges,): what each edge adds; a path's sum and the constant are its row's value."""
        scores = np.zeros(len(lattice.edges))
        edges, genes = np.nonzero(lattice.edge_genes)
        choices = lattice.edge_genes[edges, genes]
        np.add.at(scores, edges, self._coefficients[self._first[genes] + choices - 1])
        return scores

    def _design(self, rows: Rows) -> Floats:
        """(N, features and the constant's one)."""
        design = np.zeros((len(rows), self._features + 1))
        design[:, -1] = 1.0
        places, genes = np.nonzero(rows)
        design[places, self._first[genes] + rows[places, genes] - 1] = 1.0
        return design
