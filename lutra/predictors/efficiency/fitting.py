"""Fitting how ops add up, on whole networks: the table is the prior, networks are the evidence.

The table alone says that latencies add up: a scale of 1 and nothing else. How far it may be off is
assumed, and each network measured says how far it is: least squares with the weight of that prior
(ridge regression), so that few networks change little and no terms need to be chosen. Where a host
and its device work side by side, there is a form for each, and cross-validation says whether the
larger of the two predicts better than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.composition import TERMS, Composition, Floats

Terms = tuple[str, ...]

_LAUNCH: Terms = ("scale", "per_kernel_ms")
# docs/decisions.md: The table as prior
_NOISE = 0.015  # of a network's latency
_SCALE_PRIOR, _TERM_PRIOR = 0.3, 0.1  # of the scale; of what another term adds to a network
_LEAST_NETWORKS = 6
_COVERED = 0.95
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

    ``features`` (N, terms) rest on the ops' latencies. ``device`` and ``launch``, known both or
    neither, rest on what the device alone needs for each op and what the host does.
    ``resolutions`` (N,) are in pixels.
    """

    measured_ms: Floats
    features: Floats
    device: Floats | None = None
    launch: Floats | None = None
    resolutions: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.measured_ms)

    def take(self, indices: npt.NDArray[Any]) -> Networks:
        """Some of the networks."""
        device, launch, resolutions = (
            None if values is None else values[indices]
            for values in (self.device, self.launch, self.resolutions)
        )
        return Networks(
            self.measured_ms[indices], self.features[indices], device, launch, resolutions
        )


@dataclass(frozen=True)
class Forms:
    """One additive form, or two of which the larger is the latency.

    With ``launch``, what the host needs to launch the work, ``composition`` is the device's.
    """

    composition: Composition
    launch: Composition | None = None

    def predict(self, networks: Networks) -> Floats:
        """(N,) ms."""
        if self.launch is None:
            return self.composition.totals(networks.features)
        larger: Floats = np.maximum(*self.both(networks))
        return larger

    def both(self, networks: Networks) -> tuple[Floats, Floats]:
        """What the device needs and what the host needs, each (N,) ms."""
        assert self.launch is not None
        assert networks.device is not None
        assert networks.launch is not None
        return self.composition.totals(networks.device), self.launch.totals(networks.launch)


@dataclass(frozen=True)
class TermChoice:
    """Terms to fit: those of one form, or with ``launch_terms`` of two."""

    terms: Terms
    launch_terms: Terms = ()

    def solve(self, networks: Networks) -> Forms:
        """The coefficients with the least relative error on these networks."""
        if self.launch_terms:
            return _solve_larger(networks, self.terms, self.launch_terms)
        return Forms(_solve(networks.features, networks.measured_ms, self.terms))


@dataclass(frozen=True)
class Fit:
    """How ops add up, with its cross-validated mean absolute percentage error.

    ``launch`` and ``launch_terms`` are there where the larger of two forms predicts best;
    ``composition`` then speaks of the device. ``sum_mape_percent`` is the error of plain sums.
    ``interval_percent`` is the `conformal_percent` of the networks' cross-validated errors, and
    ``elsewhere_percent`` that of each resolution predicted from the others, where there are some.
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

    def to_json(self) -> dict[str, Any]:
        """For the table's ``calibration`` document."""
        return asdict(self)


def fit(networks: Networks) -> Fit:
    """Fit how ops add up on at least two networks; errors are relative to what was measured."""
    errors = {choice: _cross_validated(networks, choice) for choice in _choices(networks)}
    best = _best({choice: float(np.abs(errors[choice]).mean()) for choice in errors})
    forms = best.solve(networks)
    absolute = 100.0 * np.abs(errors[best])
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
        interval_percent=conformal_percent(errors[best]),
        elsewhere_percent=_elsewhere_percent(networks, best),
    )


def conformal_percent(errors: Floats) -> float:
    """The percent within which 95 % of further networks lie, by errors on some that were held out.

    Split conformal prediction (Vovk et al. 2005): of n absolute errors, the one of rank
    ceil(0.95 (n + 1)). Fewer than 19 networks cannot promise 95 %: then it is their largest, which
    holds for n / (n + 1) of further ones.
    """
    ordered = np.sort(np.abs(errors))
    rank = min(int(np.ceil(_COVERED * (len(ordered) + 1))), len(ordered))
    return 100.0 * float(ordered[rank - 1])


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


def _cross_validated(networks: Networks, choice: TermChoice) -> Floats:
    """(networks,): relative error of each network predicted without it being fitted on."""
    errors = np.empty(len(networks))
    order = np.random.default_rng(0).permutation(len(networks))
    for fold in range(min(_FOLDS, len(networks))):
        held_out = order[fold::_FOLDS]
        forms = choice.solve(networks.take(np.setdiff1d(order, held_out)))
        others = networks.take(held_out)
        errors[held_out] = forms.predict(others) / others.measured_ms - 1.0
    return errors


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
            _solve_some(networks.device, networks.measured_ms, ~launched, device_terms),
            _solve_some(networks.launch, networks.measured_ms, launched, launch_terms),
        )
        errors = np.abs(forms.predict(networks) / networks.measured_ms - 1.0)
        results.append((float(errors.mean()), forms))
        device_ms, launch_ms = forms.both(networks)
        launched = launch_ms > device_ms
    return min(results, key=lambda result: result[0])


def _solve_some(
    features: Floats, measured: Floats, chosen: npt.NDArray[np.bool_], terms: Terms
) -> Composition:
    """Fit on the chosen networks, those that the form rules; where they are few, only a scale.

    Where it rules none, the plain sum, but no larger than any network allows: the larger of two
    forms is what was measured, so neither exceeds it.
    """
    if np.count_nonzero(chosen) >= _LEAST_NETWORKS:
        return _solve(features[chosen], measured[chosen], terms)
    ratios = measured / features[:, _SCALE]
    if chosen.any():
        return Composition(float(np.median(ratios[chosen])))
    return Composition(min(1.0, float(ratios.min())))


def _solve(features: Floats, measured: Floats, terms: Sequence[str]) -> Composition:
    """Least squares on relative errors, with the prior that ops just add up.

    Each column is scaled to what it adds to a network of one unit, so that one standard deviation
    serves all terms.
    """
    columns = [TERMS.index(term) for term in terms]
    design = np.hstack([features[:, columns], np.ones((len(measured), 1))])
    relative = design / measured[:, None]
    size = np.maximum(relative.mean(axis=0), 1e-12)
    shares = relative / size
    assumed = np.zeros(len(size))
    deviation = np.full(len(size), _TERM_PRIOR)
    assumed[0], deviation[0] = size[0], _SCALE_PRIOR * size[0]
    precision = np.diag((_NOISE / deviation) ** 2)
    solution = assumed + np.linalg.solve(
        shares.T @ shares + precision, shares.T @ (1.0 - shares @ assumed)
    )
    coefficients = solution / size
    return Composition(
        **dict(zip(terms, map(float, coefficients[:-1]), strict=True)),
        constant_ms=float(coefficients[-1]),
    )
