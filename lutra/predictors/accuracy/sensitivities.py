"""How accurate narrower forms of a network are, from what narrowing each of its genes alone costs.

Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.2: curves of accuracy over
the channels that are kept, layer by layer. `lutra prune sense` measures them, as `Samples` of a
`NarrowerForms`. Here they make an additive model, for which searches are exact.
"""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError
from lutra.predictors.accuracy.additive import AdditivePredictor
from lutra.predictors.accuracy.base import Accuracies
from lutra.predictors.accuracy.fitting import LEAST_JUDGED, figures_of
from lutra.predictors.accuracy.samples import Samples, parse_samples
from lutra.spaces import Rows, SearchSpace, get_space
from lutra.spaces.narrower import NarrowerForms

_PERCENT = 100.0
_MOST = 700.0  # that has an exponential
_NEVER = 100.0  # of a score, which is less for an accuracy of any use

Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """One gene's sensitivity: top-1 in percent with that gene alone narrowed, by its choices.

    ``measured`` is NaN where no network differs from the base in that choice alone; ``smoothed``
    is never higher for a narrower choice than for a wider one.
    """

    name: str
    channels: tuple[float, ...]
    measured: Floats
    smoothed: Floats


class SensitivityPredictor(AdditivePredictor):
    """Top-1 of a network's narrower forms without fine-tuning: each choice divides the odds.

    score = log(top-1 / (100 % - top-1)), so that whatever is taken away, top-1 is from 0 to 100 %.
    What a gene's choice adds is its own curve's. Why odds:
    docs/decisions.md: Pruning multiplies odds.
    """

    def accuracy_of(self, scores: Floats) -> Accuracies:
        """Scores -> top-1 in percent."""
        odds_against = np.exp(np.minimum(-scores, _MOST))
        return np.asarray(_PERCENT / (1.0 + odds_against), dtype=np.float64)

    def score_of(self, accuracies: Accuracies) -> Floats:
        """Top-1 in percent -> scores; infinite at 0 and 100 %."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(accuracies) - np.log(_PERCENT - accuracies), dtype=np.float64)

    def keeping_blocks(self) -> SensitivityPredictor:
        """The same, but that a network which lacks a block is never right: to choose none such."""
        space = get_space(self.space)
        assert isinstance(space, NarrowerForms)
        spare = space.spare_columns
        kept = copy(self)
        kept.coefficients = self.coefficients.copy()
        kept.coefficients[spare, 1:] += _NEVER
        kept.intercept -= _NEVER * len(spare)
        return kept

    @classmethod
    def from_bytes(cls, data: bytes, source: str, space: SearchSpace) -> SensitivityPredictor:
        """Of a file of curves; ``source`` names it in messages. Raises `AccuracyError`."""
        samples = parse_samples(data, source)
        if samples.source.space != space.name:
            raise AccuracyError(
                f"{source} is of {samples.source.space[:60]}..., another space than"
                f" {space.name[:60]}..."
            )
        return cls.from_samples(samples, source)

    @classmethod
    def from_samples(cls, samples: Samples, source: str) -> SensitivityPredictor:
        """Like `from_bytes`, of what was read; measured networks beside the curves judge it."""
        curves = curves_of(samples, source)
        space = get_space(samples.source.space)
        table = np.zeros((len(space.genes), int(space.choice_counts.max())))
        intercept = full = _score(curves[0].smoothed[-1:], samples.source.images)[0]
        for column, curve in enumerate(curves):
            scores = _score(curve.smoothed, samples.source.images)
            table[column, : len(scores)] = scores - scores[0]
            intercept += scores[0] - full
        made = cls(
            space, space.resolutions, _PERCENT, float(intercept), table, _provenance(samples), {}
        )
        made.name = "the sensitivity curves of the network"
        made.quality = _quality(made, samples)
        return made


def sensitivity_rows(space: NarrowerForms) -> Rows:
    """(points, genes): the network at full width, then each gene alone at each narrower choice.

    Choices that no network has while the others are at full width are left out.
    """
    full = space.choice_counts - 1
    rows = [full]
    for column, last in enumerate(full):
        for choice in range(last):
            row = full.copy()
            row[column] = choice
            rows.append(row)
    alone = np.array(rows, dtype=np.int16)
    possible: Rows = alone[(space.canonical(alone) == alone).all(axis=1)]
    return possible


def curves_of(samples: Samples, source: str) -> tuple[Curve, ...]:
    """A curve for each gene but the resolution; ``source`` names the samples' file in messages.

    Noise lets narrower networks seem better: what is above full width counts as that, and the rest
    is made monotone by isotonic regression. A choice that cannot be measured alone is on the line
    through its neighbours. Raises `AccuracyError` where points are missing.
    """
    space = get_space(samples.source.space)
    if not isinstance(space, NarrowerForms):
        raise AccuracyError(
            f"{source} holds measured subnets, no sensitivity curves: `lutra accuracy fit` makes a"
            " model of them"
        )
    found = {row.tobytes(): top1 for row, top1 in zip(samples.rows, samples.top1, strict=True)}
    rows = sensitivity_rows(space)
    missing = sum(row.tobytes() not in found for row in rows)
    if missing:
        raise AccuracyError(
            f"{source}: {missing} of {len(rows)} points of the curves are missing: the command"
            f" that began it goes on (`lutra prune sense ... -o {source}`)"
        )
    places: dict[str, int] = {}
    curves = []
    for column, gene in enumerate(space.genes[:-1]):
        places[gene.list_name] = place = places.get(gene.list_name, 0) + 1
        row = space.choice_counts - 1
        measured = np.full(len(gene.choices), np.nan)
        for choice in range(len(gene.choices)):
            row[column] = choice
            measured[choice] = found.get(row.tobytes(), np.nan)
        smoothed = _smoothed(np.array(gene.choices), measured)
        curves.append(Curve(f"{gene.list_name} {place}", gene.choices, measured, smoothed))
    return tuple(curves)


def _smoothed(channels: Floats, measured: Floats) -> Floats:
    from scipy.optimize import isotonic_regression

    known = np.flatnonzero(np.isfinite(measured))
    values = np.minimum(measured, measured[-1])
    for choice in np.flatnonzero(np.isnan(measured)):
        # A gene that another one can collide with has three choices or more, one of them does.
        left = min(max(int(np.searchsorted(known, choice)) - 1, 0), len(known) - 2)
        at = known[left : left + 2]
        slope = (values[at[1]] - values[at[0]]) / (channels[at[1]] - channels[at[0]])
        values[choice] = np.clip(
            values[at[0]] + slope * (channels[choice] - channels[at[0]]), 0.0, measured[-1]
        )
    return np.asarray(isotonic_regression(values).x, dtype=np.float64)


def _score(top1: Floats, images: int) -> Floats:
    """Log odds; none and all right count as half an image more and less."""
    half = 0.5 * _PERCENT / images
    share = np.clip(top1, half, _PERCENT - half)
    return np.asarray(np.log(share) - np.log(_PERCENT - share), dtype=np.float64)


def _quality(predictor: SensitivityPredictor, samples: Samples) -> dict[str, float]:
    """Figures on the networks with several genes narrowed, where enough of them differ."""
    space = get_space(samples.source.space)
    judged = (samples.rows != space.choice_counts - 1).sum(axis=1) > 1
    if judged.sum() < LEAST_JUDGED or np.ptp(samples.top1[judged]) == 0.0:
        return {}
    figures = figures_of(predictor.predict(samples.rows[judged]), samples.top1[judged])
    return {"judged": float(judged.sum()), **figures}


def _provenance(samples: Samples) -> str:
    source = samples.source
    return (
        f"what narrowing each layer alone costs, measured on {source.images} validation images of"
        f" {source.data} (weights of SHA-256 {source.checkpoint[:16]}, channels removed by"
        f" {source.criterion} norms, no fine-tuning), taken to multiply the odds of a right answer"
    )
