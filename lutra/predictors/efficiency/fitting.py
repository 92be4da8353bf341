"""Fitting how ops add up, on whole networks: the table is the prior, networks are the evidence.

The table alone says that latencies add up: a scale of 1 and nothing else. How far it may be off is
assumed, and each network measured says how far it is (`regression.py`), so that few networks change
little and no terms need to be chosen. How far stages may differ from each other, and how noisy the
networks are, is what makes the networks most likely. Where a host and its device work side by side,
there is a form for each, and cross-validation says whether the larger of the two predicts better.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.composition import TERMS, Composition, Floats
from lutra.predictors.efficiency.regression import Assumption, deviations, most_likely
from lutra.predictors.efficiency.spread import Spread, with_filled

Terms = tuple[str, ...]

_LAUNCH: Terms = ("scale", "per_kernel_ms")
# docs/decisions.md: The table as prior
_SCALE_PRIOR, _TERM_PRIOR = 0.3, 0.1  # of the scale; of what another term adds to a network
_STAGE_PRIORS = (0.0, 0.01, 0.02, 0.04)  # of a stage's latencies; 0: stages do not differ
_USUAL_NOISE = 0.015  # of a network's latency
_LEAST_NOISE, _NOISE_STEPS = 0.003, (1.0, 1.4, 2.0, 2.8, 4.0)
# Per percent: halves whose absolute difference is d on average have a mean uncertain by d / 1.6.
_NOISE_OF_REPEATABILITY = 0.0063
_LEAST_NETWORKS = 6
_COVERED = 0.95
ENOUGH_NETWORKS = 19  # whose largest error 95 % of further ones do not exceed
# Of 1 to 18 errors, to their root mean square: Student's t at 97.5 %.
_OF_FEW = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26]
_OF_FEW += [2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10]
_FOLDS = 5
_ALTERNATIONS = 10
_START_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SCALE = TERMS.index("scale")
# Where hardly any network is ruled by the other form, one form predicts as well as two, and by
# chance better. A search then finds the networks where it does not: on a simulated GPU, some that
# took 16 % more than the limit.
_CLEARLY_BETTER = 0.8


@dataclass(frozen=True)
class Networks:
    """Whole networks to fit on: what each took in ms (N,), and its ops' summed `op_features`.

    ``features`` (N, terms and ``stages``) rest on the ops' latencies. ``device`` and ``launch``,
    known both or neither, rest on what the device alone needs for each op and what the host does.
    ``resolutions`` (N,) are in pixels. ``process_ms`` (N, processes) is what each took in each
    process, NaN where it did not run, ``repeatability_percent`` how well they repeat,
    ``filled_ms`` (N,) the standard deviation that ops bring which were not measured.
    """

    measured_ms: Floats
    features: Floats
    device: Floats | None = None
    launch: Floats | None = None
    resolutions: npt.NDArray[Any] | None = None
    stages: tuple[str, ...] = ()
    process_ms: Floats | None = None
    filled_ms: Floats | None = None
    repeatability_percent: float = float("nan")

    def __len__(self) -> int:
        return len(self.measured_ms)

    @property
    def noises(self) -> dict[float, float]:
        """How noisy they may be, relative, no less than they repeat: each with its log prior."""
        least = float(np.fmax(_NOISE_OF_REPEATABILITY * self.repeatability_percent, _LEAST_NOISE))
        levels = [step * least for step in _NOISE_STEPS]
        return {noise: -0.5 * float(np.log(noise / _USUAL_NOISE)) ** 2 for noise in levels}

    def take(self, indices: npt.NDArray[Any]) -> Networks:
        """Some of the networks."""
        some: dict[str, Any] = {
            name: None if values is None else values[indices]
            for name in ("device", "launch", "resolutions", "process_ms", "filled_ms")
            for values in (getattr(self, name),)
        }
        return replace(
            self,
            measured_ms=self.measured_ms[indices],
            features=self.features[indices],
            **some,
        )


@dataclass(frozen=True)
class Forms:
    """One additive form, or two of which the larger is the latency.

    With ``launch``, what the host needs to launch the work, ``composition`` is the device's.
    ``spread`` is how sure the one form is.
    """

    composition: Composition
    launch: Composition | None = None
    spread: Spread | None = None

    def predict(self, networks: Networks) -> Floats:
        """(N,) ms."""
        if self.launch is None:
            return self.composition.totals(networks.features, networks.stages)
        larger: Floats = np.maximum(*self.both(networks))
        return larger

    def both(self, networks: Networks) -> tuple[Floats, Floats]:
        """What the device needs and what the host needs, each (N,) ms."""
        assert self.launch is not None
        assert networks.device is not None
        assert networks.launch is not None
        return (
            self.composition.totals(networks.device, networks.stages),
            self.launch.totals(networks.launch, networks.stages),
        )

    def widening(self, networks: Networks) -> Floats:
        """(N,): how much less sure each is than the typical one that was fitted on."""
        if self.spread is None:
            return np.ones(len(networks))
        predicted_ms = self.predict(networks)
        return self.spread.widening(networks.features, predicted_ms, networks.filled_ms)


@dataclass(frozen=True)
class TermChoice:
    """Terms to fit: those of one form, or with ``launch_terms`` of two."""

    terms: Terms
    launch_terms: Terms = ()

    def solve(self, networks: Networks) -> Forms:
        """The coefficients with the least relative error on these networks."""
        if self.launch_terms:
            return _solve_larger(networks, self.terms, self.launch_terms)
        return _solve(networks, networks.features, self.terms, networks.stages)


@dataclass(frozen=True)
class Fit:
    """How ops add up, with its cross-validated mean absolute percentage error.

    ``launch`` and ``launch_terms`` are there where the larger of two forms predicts best;
    ``composition`` then speaks of the device. ``sum_mape_percent`` is the error of plain sums.
    ``interval_percent`` is the `conformal_percent` of the cross-validated errors, of each process
    that a network ran in, for a network that the fit is as sure of as of most; ``spread`` tells for
    others. ``elsewhere_percent`` is that of each resolution predicted from the others, where there
    are some.
    """

    composition: Composition
    launch: Composition | None
    terms: Terms
    launch_terms: Terms
    networks: int
    cv_mape_percent: float
    cv_p95_percent: float
    sum_mape_percent: float
    interval_percent: float
    elsewhere_percent: float | None
    spread: Spread | None

    def to_json(self) -> dict[str, Any]:
        """For the table's ``calibration`` document."""
        return asdict(self)


def fit(networks: Networks) -> Fit:
    """Fit how ops add up on at least two networks; errors are relative to what was measured."""
    held_out = {choice: _cross_validated(networks, choice) for choice in _choices(networks)}
    best = _best({choice: float(np.abs(seen.errors).mean()) for choice, seen in held_out.items()})
    forms = best.solve(networks)
    absolute = 100.0 * np.abs(held_out[best].errors)
    plain = 100.0 * np.abs(networks.features[:, 0] / networks.measured_ms - 1.0)
    return Fit(
        composition=forms.composition,
        launch=forms.launch,
        terms=best.terms,
        launch_terms=best.launch_terms,
        networks=len(networks),
        cv_mape_percent=float(absolute.mean()),
        cv_p95_percent=float(np.quantile(absolute, 0.95)),
        sum_mape_percent=float(plain.mean()),
        interval_percent=_interval_percent(networks, held_out[best]),
        elsewhere_percent=_elsewhere_percent(networks, best),
        spread=forms.spread,
    )


def padded(runs_ms: Iterable[Sequence[float]]) -> Floats:
    """(N, the most): what networks took in each process or run; NaN behind those of fewer."""
    rows = list(runs_ms)
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def conformal_percent(errors: Floats, networks: int | None = None) -> float:
    """The percent within which 95 % of further networks lie, by errors on some that were held out.

    Split conformal prediction (Vovk et al. 2005): of n absolute errors, the one of rank
    ceil(0.95 (n + 1)). The ranks of fewer than 19 networks promise no 95 %: then it is what holds
    if errors are normal, wider the fewer there are, and no less than the largest. ``networks`` is
    how many the errors are of, where some are of the same.
    """
    ordered = np.sort(np.abs(errors))
    count = len(ordered) if networks is None else networks
    if count < ENOUGH_NETWORKS:
        of_few = _OF_FEW[count - 1] * float(np.sqrt(np.mean(ordered**2)))
        return 100.0 * max(of_few, float(ordered[-1]))
    rank = min(int(np.ceil(_COVERED * (len(ordered) + 1))), len(ordered))
    return 100.0 * float(ordered[rank - 1])


def process_interval_percent(predicted_ms: Floats, process_ms: Floats, widening: Floats) -> float:
    """Within which a process that runs a network lies, of (N,), (N, processes), (N,).

    Where a model comes to lie in memory stays for its process's life: a network that is deployed,
    or verified another day, is one or a few processes, not the median of those that were measured.
    """
    errors = (predicted_ms[:, None] / process_ms - 1.0) / widening[:, None]
    return conformal_percent(errors[~np.isnan(errors)], len(predicted_ms))


def _interval_percent(networks: Networks, seen: _HeldOut) -> float:
    predicted_ms = networks.measured_ms * (1.0 + seen.errors)
    ran = networks.measured_ms[:, None] if networks.process_ms is None else networks.process_ms
    return process_interval_percent(predicted_ms, ran, seen.widening)


def _elsewhere_percent(networks: Networks, choice: TermChoice) -> float | None:
    """How far off networks are at a resolution that nothing was fitted at."""
    if networks.resolutions is None:
        return None
    errors = []
    for resolution in np.unique(networks.resolutions):
        out = networks.resolutions == resolution
        rest = networks.take(np.flatnonzero(~out))
        if len(rest) < _LEAST_NETWORKS:
            return None
        others = networks.take(np.flatnonzero(out))
        errors.append(choice.solve(rest).predict(others) / others.measured_ms - 1.0)
    return conformal_percent(np.concatenate(errors))


def _choices(networks: Networks) -> list[TermChoice]:
    single = TermChoice(TERMS)
    both_known = networks.device is not None and networks.launch is not None
    return [single, TermChoice(TERMS, _LAUNCH)] if both_known else [single]


def _best(errors: Mapping[TermChoice, float]) -> TermChoice:
    """The one with the least mean error; one form instead of two only if it is clearly better."""
    return min(
        errors,
        key=lambda choice: errors[choice] * (_CLEARLY_BETTER if choice.launch_terms else 1.0),
    )


class _HeldOut(NamedTuple):
    """(networks,): relative errors of networks that were not fitted on; how much less sure each."""

    errors: Floats
    widening: Floats


def _cross_validated(networks: Networks, choice: TermChoice) -> _HeldOut:
    seen = _HeldOut(np.empty(len(networks)), np.empty(len(networks)))
    order = np.random.default_rng(0).permutation(len(networks))
    for fold in range(min(_FOLDS, len(networks))):
        held_out = order[fold::_FOLDS]
        forms = choice.solve(networks.take(np.setdiff1d(order, held_out)))
        others = networks.take(held_out)
        seen.errors[held_out] = forms.predict(others) / others.measured_ms - 1.0
        seen.widening[held_out] = forms.widening(others)
    return seen


def _solve_larger(networks: Networks, device_terms: Terms, launch_terms: Terms) -> Forms:
    """Fit each form on the networks that it rules, decide anew which rules which, and so on.

    It starts as plain sums say. That may end in a state where a form rules nothing although it
    should, so other starts count too, if they end clearly better and not by fitting noise.
    """
    assert networks.device is not None
    assert networks.launch is not None
    lead = networks.launch[:, _SCALE] / networks.device[:, _SCALE]
    plain, *others = (
        _alternate(networks, lead > threshold, device_terms, launch_terms)
        for threshold in (1.0, *np.quantile(lead, _START_QUANTILES))
    )
    error, forms = min(others, key=lambda result: result[0])
    return forms if error < _CLEARLY_BETTER * plain[0] else plain[1]


def _alternate(
    networks: Networks, launched: npt.NDArray[np.bool_], device_terms: Terms, launch_terms: Terms
) -> tuple[float, Forms]:
    """The best of what this start leads to, with its mean relative error.

    Not the last: a step may make errors larger.
    """
    assert networks.device is not None
    assert networks.launch is not None
    results, seen = [], set[bytes]()
    while launched.tobytes() not in seen and len(seen) < _ALTERNATIONS:
        seen.add(launched.tobytes())
        forms = Forms(
            _solve_some(networks, networks.device, ~launched, device_terms),
            _solve_some(networks, networks.launch, launched, launch_terms),
        )
        errors = np.abs(forms.predict(networks) / networks.measured_ms - 1.0)
        results.append((float(errors.mean()), forms))
        device_ms, launch_ms = forms.both(networks)
        launched = launch_ms > device_ms
    return min(results, key=lambda result: result[0])


def _solve_some(
    networks: Networks, features: Floats, chosen: npt.NDArray[np.bool_], terms: Terms
) -> Composition:
    """Fit on the chosen networks, those that the form rules; where they are few, only a scale.

    Where it rules none, the plain sum, but no larger than any network allows: the larger of two
    forms is what was measured, so neither exceeds it.
    """
    if np.count_nonzero(chosen) >= _LEAST_NETWORKS:
        ruled = networks.take(np.flatnonzero(chosen))
        return _solve(ruled, features[chosen], terms).composition
    ratios = networks.measured_ms / features[:, _SCALE]
    if chosen.any():
        return Composition(float(np.median(ratios[chosen])))
    return Composition(min(1.0, float(ratios.min())))


def _solve(
    networks: Networks, features: Floats, terms: Sequence[str], stages: Sequence[str] = ()
) -> Forms:
    """Regression on relative errors, with the prior that ops just add up.

    Each term is scaled to what it adds to a network of one unit, so that one standard deviation
    serves all; a stage is a share of its ops' latencies.
    """
    columns = [TERMS.index(term) for term in terms]
    columns += range(len(TERMS), len(TERMS) + len(stages))
    design = np.hstack([features[:, columns], np.ones((len(networks), 1))])
    shares = design / networks.measured_ms[:, None]
    assumptions = _assumptions(shares, len(stages))
    found = most_likely(shares, np.ones(len(networks)), assumptions, networks.noises)
    *values, constant = map(float, found.mean)
    composition = Composition(
        **dict(zip(terms, values, strict=False)),
        constant_ms=constant,
        stages=dict(zip(stages, values[len(terms) :], strict=True)),
    )
    known = deviations(shares, found.covariance, found.noise)
    typical = float(np.median(with_filled(known, networks.measured_ms, networks.filled_ms)))
    covariance = tuple(tuple(map(float, row)) for row in found.covariance)
    return Forms(composition, spread=Spread(tuple(columns), covariance, found.noise, typical))


def _assumptions(shares: Floats, stages: int) -> Iterator[Assumption]:
    """Of shares (N, terms, stages and a constant) that add up to 1."""
    size = np.maximum(np.abs(shares).mean(axis=0), 1e-12)
    mean, deviation = np.zeros(len(size)), _TERM_PRIOR / size
    mean[0], deviation[0] = 1.0, _SCALE_PRIOR
    own = slice(len(size) - 1 - stages, len(size) - 1)
    for among_stages in _STAGE_PRIORS if stages else (0.0,):
        of_stages = deviation.copy()
        of_stages[own] = among_stages
        yield Assumption(mean, of_stages)
