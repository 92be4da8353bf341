"""The contract of an accuracy predictor."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError
from lutra.spaces import Rows, SearchSpace, get_space

Accuracies = npt.NDArray[np.float64]


class AccuracyPredictor(ABC):
    """Predicts top-1 of a space's architectures (on ImageNet, or as it says), and how it knows.

    ``name`` for people, ``space`` the name of the space, ``resolutions`` the input resolutions in
    pixels that it speaks of, ``provenance`` one sentence on where its numbers come from,
    ``quality`` its figures on architectures that it was not fitted on (empty when unknown).
    """

    name: str
    space: str
    resolutions: tuple[int, ...]
    provenance: str
    quality: dict[str, float]

    @abstractmethod
    def predict(self, rows: Rows) -> Accuracies:
        """(N, genes) architectures -> (N,) top-1 in percent.

        Raises `AccuracyError` for a resolution it does not know and for rows that are not of its
        space. Inert genes have no influence.
        """

    def canonical(self, rows: Rows) -> Rows:
        """The rows in canonical form, after checking that this predictor speaks of them."""
        space = get_space(self.space)
        if rows.ndim != 2 or rows.shape[1] != len(space.genes):
            raise AccuracyError(
                f"{self.name} needs rows of {len(space.genes)} genes of {self.space},"
                f" not an array of shape {rows.shape}"
            )
        if np.any(rows < 0) or np.any(rows >= space.choice_counts):
            raise AccuracyError(f"the rows hold choices that {self.space} does not have")
        self._check_resolutions(space, rows[:, -1])
        return space.canonical(rows)

    def _check_resolutions(self, space: SearchSpace, choices: npt.NDArray[np.int16]) -> None:
        known = np.array([resolution in self.resolutions for resolution in space.resolutions])
        if not np.all(known[choices]):
            foreign = space.resolutions[int(choices[~known[choices]][0])]
            raise AccuracyError(
                f"{self.name} predicts no accuracy at resolution {foreign}; choose from"
                f" {', '.join(map(str, self.resolutions))}, or pass another predictor"
            )
