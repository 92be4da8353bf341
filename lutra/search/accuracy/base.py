"""The contract of an accuracy predictor, and where predictors come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError
from lutra.files import read_bounded
from lutra.spaces import Rows, SearchSpace, get_space

Accuracies = npt.NDArray[np.float64]

MAX_FILE_BYTES = 64 << 20  # OFA's predictors have 1.5 MB
_TOO_LARGE = (
    f"is larger than {MAX_FILE_BYTES >> 20} MiB: too large for an accuracy predictor; is it a"
    " supernet's checkpoint?"
)


class AccuracyPredictor(ABC):
    """Predicts ImageNet top-1 of a space's architectures, and says how it knows.

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
        known = np.isin(space.resolutions, self.resolutions)
        if not np.all(known[choices]):
            foreign = space.resolutions[int(choices[~known[choices]][0])]
            raise AccuracyError(
                f"{self.name} predicts no accuracy at resolution {foreign}; choose from"
                f" {', '.join(map(str, self.resolutions))}, or pass another predictor"
            )


def bundled_predictor(space_name: str) -> AccuracyPredictor:
    """The predictor that comes with lutra for a space.

    A space gains one when a file ``<space>.json`` is added beside this module. Raises
    `AccuracyError` for a space without.
    """
    from lutra.search.accuracy.additive import AdditivePredictor  # it imports this module

    space = get_space(space_name)
    file = resources.files("lutra.search.accuracy") / f"{space.name}.json"
    if not file.is_file():
        raise AccuracyError(
            f"no accuracy predictor comes with lutra for {space.name};"
            " pass --accuracy FILE with the one that OFA's authors publish for it"
        )
    return AdditivePredictor.from_bytes(file.read_bytes(), f"lutra's {file.name}", space)


def load_predictor(
    path: Path, space: SearchSpace, resolutions: Sequence[int] | None = None
) -> AccuracyPredictor:
    """The predictor in a file: one of OFA's PyTorch files, or JSON of ``tools/fit_accuracy.py``.

    ``resolutions`` names, in order, the resolutions that an OFA file encodes, for files of OFA's
    library form that were made with an unusual list. Raises `AccuracyError`; never runs code
    from the file.
    """
    from lutra.search.accuracy.additive import AdditivePredictor
    from lutra.search.accuracy.ofa_mlp import OfaMlpPredictor

    if not path.is_file():
        raise AccuracyError(f"{path} is not a file; pass the file of an accuracy predictor")
    data = read_bounded(path, MAX_FILE_BYTES, _TOO_LARGE, AccuracyError)
    if data.lstrip()[:1] == b"{":
        return AdditivePredictor.from_bytes(data, str(path), space)
    return OfaMlpPredictor.from_bytes(data, str(path), space, resolutions)
