"""An accuracy model that is additive over an architecture's choices, up to one fixed curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError
from lutra.files import parse_json
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.spaces import Lattice, Rows, SearchSpace

FORMAT = "lutra-additive-accuracy"
VERSION = 2
"""1 has one ``resolution`` and no coefficients of it; 2 has ``resolutions`` and a list ``r``."""

_VERSIONS = (1, VERSION)
_CHUNK = 1 << 16
_LEAST_PERCENT = 1e-9


class AdditivePredictor(AccuracyPredictor):
    """Top-1 in percent = ``ceiling`` - exp(-score); the score is a sum over choices.

    score = ``intercept`` + sum over genes, the resolution's too, of ``coefficients[gene, choice]``.
    So every choice divides the gap to the ceiling by a factor of its own: what a larger kernel is
    worth shrinks as a network gets better, as measurements show. Because the curve rises with the
    score, the most accurate of any set of architectures is the one with the highest score, and
    exact methods (shortest paths in a `Lattice`) apply to scores.

    ``coefficients`` is (genes, most choices of a gene), padded with 0. Choice 0 always has 0, and
    so has the first of ``resolutions``: inert genes add nothing, and the intercept is the score of
    the smallest architecture.
    """

    def __init__(
        self,
        space: SearchSpace,
        resolutions: Sequence[int],
        ceiling: float,
        intercept: float,
        coefficients: npt.NDArray[np.float64],
        provenance: str,
        quality: dict[str, float],
    ) -> None:
        self.name = f"the additive accuracy model of {space.name}"
        self.space = space.name
        self.resolutions = tuple(resolutions)
        self.provenance = provenance
        self.quality = quality
        self.ceiling = ceiling
        self.intercept = intercept
        self.coefficients = coefficients

    def predict(self, rows: Rows) -> Accuracies:
        """(N, genes) architectures -> (N,) top-1 in percent; about 2 us each."""
        return self.accuracy_of(self.scores(rows))

    def scores(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) architectures -> (N,) scores; the higher, the more accurate."""
        rows = self.canonical(rows)
        genes = np.arange(rows.shape[1])
        result = np.empty(len(rows))
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            result[chunk] = self.coefficients[genes, rows[chunk]].sum(axis=1)
        return result + self.intercept

    def edge_scores(self, lattice: Lattice) -> npt.NDArray[np.float64]:
        """What each of the lattice's edges adds to the score.

        The score of a path's architecture is ``intercept`` plus the sum over its edges.
        """
        sums = [
            sum(float(self.coefficients[gene, choice]) for gene, choice in edge.genes)
            for edge in lattice.edges
        ]
        return np.array(sums, dtype=np.float64)

    def accuracy_of(self, scores: npt.NDArray[np.float64]) -> Accuracies:
        """Scores -> top-1 in percent."""
        return np.asarray(self.ceiling - np.exp(-scores), dtype=np.float64)

    def score_of(self, accuracies: Accuracies) -> npt.NDArray[np.float64]:
        """Top-1 in percent -> scores; infinite at the ceiling and beyond."""
        gap = np.maximum(self.ceiling - np.asarray(accuracies, dtype=np.float64), 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(gap), dtype=np.float64)

    @classmethod
    def from_bytes(cls, data: bytes, source: str, space: SearchSpace) -> AdditivePredictor:
        """Read the JSON form; ``source`` names the file in messages. Raises `AccuracyError`."""
        document = _parse(data, source)
        named = document.get("space")
        if named != space.name:
            told = named[:60] if isinstance(named, str) else "no space"
            raise AccuracyError(f"{source} predicts accuracy of {told}, not of {space.name}")
        resolutions = _resolutions(document, source, space)
        quality = document.get("quality", {})
        if not isinstance(quality, dict):
            raise AccuracyError(f"{source}: its quality must be an object of numbers")
        ceiling, intercept = (
            _number(document, name, source) for name in ("ceiling_percent", "intercept")
        )
        coefficients = _table(document, source, space, resolutions)
        _require_percentages(ceiling, intercept + coefficients.min(axis=1).sum(), source)
        return cls(
            space,
            resolutions,
            ceiling=ceiling,
            intercept=intercept,
            coefficients=coefficients,
            provenance=_provenance(document, source),
            quality={str(name): _number(quality, name, source) for name in quality},
        )


def _parse(data: bytes, source: str) -> dict[str, Any]:
    try:
        document = parse_json(data)
    except ValueError as error:
        raise AccuracyError(f"{source} is not valid JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise AccuracyError(
            f"{source} is not an additive accuracy model; `lutra accuracy fit` writes them"
        )
    if document.get("version") not in _VERSIONS:
        raise AccuracyError(f"{source} was written by another version of lutra; fit it again")
    return document


def _resolutions(document: dict[str, Any], source: str, space: SearchSpace) -> tuple[int, ...]:
    """The resolutions that a model speaks of, in the space's order."""
    if document["version"] == 1:
        given: object = [document.get("resolution")]
    else:
        given = document.get("resolutions")
    if isinstance(given, list) and given and all(type(item) is int for item in given):
        ordered = tuple(r for r in space.resolutions if r in given)
        if list(ordered) == given:
            return ordered
    raise AccuracyError(f"{source}: its resolutions are not, in order, ones of {space.name}")


def _provenance(document: dict[str, Any], source: str) -> str:
    given = document.get("provenance")
    return given if isinstance(given, str) and given else f"{source}, which does not say"


def _number(document: dict[str, Any], name: str, source: str) -> float:
    value = document.get(name)
    if not isinstance(value, int | float) or type(value) is bool or not abs(value) < 1e6:
        raise AccuracyError(f"{source}: '{name:.40}' is missing or not a sensible number")
    return float(value)


def _require_percentages(ceiling: float, lowest_score: float, source: str) -> None:
    """Raise `AccuracyError` unless all accuracies, of that score or a higher one, are in 0..100."""
    if not (0.0 < ceiling <= 100.0 and lowest_score >= -np.log(max(ceiling, _LEAST_PERCENT))):
        raise AccuracyError(f"{source} predicts accuracies outside 0 to 100 %; fit it again")


def _table(
    document: dict[str, Any], source: str, space: SearchSpace, resolutions: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """The coefficients by OFA's lists (``{"ks": [[0, 0.01, 0.02], ...]}``) as one array."""
    given = document.get("coefficients")
    names = sorted(set(space.list_names) - ({"r"} if document["version"] == 1 else set()))
    if not isinstance(given, dict) or sorted(given) != names:
        raise AccuracyError(f"{source}: its coefficients must be those of {', '.join(names)}")
    table = np.zeros((len(space.genes), int(space.choice_counts.max())))
    for name in names:
        columns = space.columns(name)
        if not isinstance(given[name], list) or len(given[name]) != len(columns):
            raise AccuracyError(f"{source}: '{name}' must have {len(columns)} lists")
        for column, effects in zip(columns, given[name], strict=True):
            choices = list(range(len(space.genes[column].choices)))
            if name == "r":
                choices = space.resolution_indices(resolutions).tolist()
            table[column, choices] = _effects(effects, len(choices), f"{source}: '{name}'")
    return table


def _effects(given: object, choices: int, source: str) -> list[float]:
    """One gene's coefficients, checked."""
    if not isinstance(given, list) or len(given) != choices:
        raise AccuracyError(f"{source} needs {choices} numbers for each gene")
    if not all(type(value) in (int, float) and abs(value) < 1e3 for value in given):
        raise AccuracyError(f"{source} holds something that is not a sensible number")
    if given[0] != 0:
        raise AccuracyError(f"{source} must give each gene's first choice the coefficient 0")
    return [float(value) for value in given]
