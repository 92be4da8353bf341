"""An accuracy model from measured subnets: OFA's MLP or the additive one, whichever ranks better.

Both are judged on subnets that they were not fitted on, fold by fold, the same folds for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError
from lutra.predictors.accuracy.additive_fitting import FOLDS, AdditiveLearner, resolutions_in
from lutra.predictors.accuracy.base import Accuracies, AccuracyPredictor
from lutra.predictors.accuracy.mlp_fitting import MlpLearner
from lutra.predictors.accuracy.samples import Samples
from lutra.spaces import Rows, SearchSpace, get_space

LEAST_SUBNETS = 20
LEAST_JUDGED = 10
BETTER = "better"
MODELS = ("additive", "mlp")
_CHECKED = 10_000  # random architectures whose predictions must be percentages


class Learner(Protocol):
    """A way to make a predictor from measured architectures."""

    @property
    def name(self) -> str:
        """One of `MODELS`."""

    def fit(self, rows: Rows, top1: Accuracies) -> AccuracyPredictor:
        """A predictor from architectures (N, genes) and their top-1 (N,) in percent."""

    def to_bytes(
        self, predictor: AccuracyPredictor, provenance: str, quality: Mapping[str, float]
    ) -> bytes:
        """The file that `load_accuracy` reads, of a predictor that this made."""


@dataclass(frozen=True)
class AccuracyFit:
    """A fitted model: the file's ``content``, and how good each model was on held-out subnets.

    ``figures`` has for each model that could be fitted ``r2``, ``rmse_percent`` and
    ``max_percent`` (percentage points) and ``kendall_tau``; ``refused`` why another could not.
    ``judged`` of the ``subnets`` were held out; the others are alone at their resolutions.
    """

    kept: str
    figures: Mapping[str, Mapping[str, float]]
    refused: Mapping[str, str]
    subnets: int
    judged: int
    provenance: str
    content: bytes


def fit_samples(
    samples: Samples,
    *,
    model: str = BETTER,
    folds: int = FOLDS,
    learners: tuple[Learner, ...] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> AccuracyFit:
    """Fit both models (or the one named) and keep the one with the higher Kendall tau.

    A search only ranks, so that is what the models are compared by. ``on_step`` is told how many
    fits are done and how many there are. Raises `AccuracyError` for too few subnets, or ones that
    are all equally accurate.
    """
    space = get_space(samples.source.space)
    _require_enough(samples)
    judged = _count_judged(samples)
    chosen = [
        learner
        for learner in learners or (AdditiveLearner(space), MlpLearner(space))
        if model in (BETTER, learner.name)
    ]
    fits = len(chosen) * (folds + 1)
    steps = iter(range(1, fits + 1))

    def stepped() -> None:
        if on_step is not None:
            on_step(next(steps), fits)

    figures: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    fitted: dict[str, tuple[Learner, AccuracyPredictor]] = {}
    for learner in chosen:
        try:
            predicted = held_out(learner, samples.rows, samples.top1, folds, stepped)
            predictor = learner.fit(samples.rows, samples.top1)
            _require_percentages(space, predictor)
            stepped()
        except AccuracyError as error:
            refused[learner.name] = str(error)
            continue
        figures[learner.name] = figures_of(predicted, samples.top1)
        fitted[learner.name] = learner, predictor
    if not fitted:
        raise AccuracyError("; ".join(refused.values()))
    kept = max(figures, key=lambda name: figures[name]["kendall_tau"])
    learner, predictor = fitted[kept]
    provenance = _provenance(samples)
    counts = {"subnets": len(samples.top1), "judged": judged, "folds": folds}
    quality = {name: float(count) for name, count in counts.items()} | dict(figures[kept])
    quality |= {
        f"{name}_{figure}": value
        for name in figures
        if name != kept
        for figure, value in figures[name].items()
    }
    content = learner.to_bytes(predictor, provenance, quality)
    return AccuracyFit(kept, figures, refused, len(samples.top1), judged, provenance, content)


def held_out(
    learner: Learner,
    rows: Rows,
    top1: Accuracies,
    folds: int,
    on_fold: Callable[[], None] = lambda: None,
    seed: int = 1,
) -> npt.NDArray[np.float64]:
    """(N,): each subnet's accuracy by a model that was fitted without its fold.

    NaN for those that are alone at their resolution: no model without them knows it.
    """
    part = _folds_of(rows, folds, seed)
    predicted = np.full(len(top1), np.nan)
    for fold in range(folds):
        train, test = part != fold, part == fold
        predictor = learner.fit(rows[train], top1[train])
        test &= ~_alone(rows)
        if test.any():
            predicted[test] = predictor.predict(rows[test])
        on_fold()
    return predicted


def _folds_of(rows: Rows, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,): the fold of each, by chance, each resolution's spread evenly over the folds."""
    order = np.argsort(np.random.default_rng(seed).permutation(len(rows)))
    order = order[np.argsort(rows[order, -1], kind="stable")]
    part = np.empty(len(rows), np.int64)
    part[order] = np.arange(len(rows)) % folds
    return part


def _alone(rows: Rows) -> npt.NDArray[np.bool_]:
    """(N,): whether no other subnet has its resolution."""
    _, place, counts = np.unique(rows[:, -1], return_inverse=True, return_counts=True)
    alone: npt.NDArray[np.bool_] = counts[place] == 1
    return alone


def _count_judged(samples: Samples) -> int:
    """How many subnets `held_out` predicts; raises `AccuracyError` where they tell too little."""
    top1 = samples.top1[~_alone(samples.rows)]
    if len(top1) < LEAST_JUDGED:
        raise AccuracyError(
            f"only {len(top1)} of {len(samples.top1)} subnets share their resolution with others"
            " and can be judged: measure more subnets per resolution, or name fewer --resolutions"
        )
    _require_different(top1)
    return len(top1)


def figures_of(predicted: Accuracies, top1: Accuracies) -> dict[str, float]:
    """How good held-out predictions are; errors in percentage points."""
    from scipy.stats import kendalltau

    known = np.isfinite(predicted)
    predicted, top1 = predicted[known], top1[known]
    residuals = predicted - top1
    tau = float(kendalltau(predicted, top1).statistic)
    return {
        "r2": 1.0 - float(np.mean(residuals**2) / np.var(top1)),
        "rmse_percent": float(np.sqrt(np.mean(residuals**2))),
        "max_percent": float(np.max(np.abs(residuals))),
        "kendall_tau": 0.0 if np.isnan(tau) else tau,  # all predicted alike
    }


def _require_enough(samples: Samples) -> None:
    count = len(samples.top1)
    if count < LEAST_SUBNETS:
        raise AccuracyError(
            f"{count} measured subnets are too few to fit: measure {LEAST_SUBNETS} or more with"
            " `lutra accuracy sample`"
        )
    _require_different(samples.top1)


def _require_different(top1: Accuracies) -> None:
    if np.ptp(top1) == 0:
        raise AccuracyError(
            f"all {len(top1)} subnets have a top-1 of {top1[0]:g} %: is the supernet trained?"
        )


def _require_percentages(space: SearchSpace, predictor: AccuracyPredictor) -> None:
    """Raise `AccuracyError` where a model gives what is no percentage."""
    rng = np.random.default_rng(0)
    rows = space.sample(_CHECKED, rng, predictor.resolutions)
    first, last = space.resolution_indices(predictor.resolutions)[[0, -1]]
    rows[0], rows[1] = 0, space.choice_counts - 1
    rows[0, -1], rows[1, -1] = first, last
    predicted = predictor.predict(rows)
    if not np.all((predicted >= 0) & (predicted <= 100)):
        raise AccuracyError(f"{predictor.name} would predict accuracies outside 0 to 100 %")


def _provenance(samples: Samples) -> str:
    source, top1 = samples.source, samples.top1
    space = get_space(source.space)
    return (
        f"fitted to the top-1 of {len(top1)} subnets of a supernet (SHA-256"
        f" {source.checkpoint[:16]}) at {', '.join(map(str, resolutions_in(space, samples.rows)))}"
        f" pixels, with inherited weights on {source.images} validation images of {source.data},"
        f" from {top1.min():.1f} to {top1.max():.1f} %"
    )
