"""Fitting how ops add up, on whole networks, and choosing the terms by cross-validation.

A *choice* is a set of terms for one form that is additive over ops, or a set for each of two: what
the device needs, and what the host needs to launch its work; the larger of them is the latency. All
are compared by how well they predict networks they were not fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.predictors.efficiency.composition import TERMS, Composition, Floats

Terms = tuple[str, ...]

_PLAIN: tuple[Terms, ...] = (
    ("scale",),
    ("scale", "per_unit_ms"),
    ("scale", "border_ms_per_mb"),
    ("scale", "border_ms_per_mb", "weight_ms_per_mb"),
    ("scale", "per_unit_ms", "border_ms_per_mb", "weight_ms_per_mb"),
)
_KERNELS: tuple[Terms, ...] = (
    ("scale", "per_kernel_ms"),
    ("scale", "border_ms_per_mb", "per_kernel_ms"),
    ("scale", "border_ms_per_mb", "weight_ms_per_mb", "per_kernel_ms"),
)
_DEVICE: tuple[Terms, ...] = (
    ("scale",),
    ("scale", "border_ms_per_mb"),
    ("scale", "per_kernel_ms"),
    ("scale", "border_ms_per_mb", "per_kernel_ms"),
)
_LAUNCH: tuple[Terms, ...] = (("scale",), ("scale", "per_kernel_ms"))
_FOLDS = 5
_NETWORKS_PER_COEFFICIENT = 3
_ALTERNATIONS = 10
_SOLVER_STEPS = 100  # per coefficient
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
    """

    measured_ms: Floats
    features: Floats
    device: Floats | None = None
    launch: Floats | None = None

    def __len__(self) -> int:
        return len(self.measured_ms)

    def take(self, indices: npt.NDArray[Any]) -> Networks:
        """Some of the networks."""
        device, launch = (
            None if features is None else features[indices]
            for features in (self.device, self.launch)
        )
        return Networks(self.measured_ms[indices], self.features[indices], device, launch)


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

    @property
    def networks_needed(self) -> int:
        """How many networks it takes to fit them: fewer would fit noise."""
        return sum(_needed(terms) for terms in (self.terms, self.launch_terms) if terms)

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
    """

    composition: Composition
    launch: Composition | None
    terms: Terms
    launch_terms: Terms
    networks: int
    cv_mape_percent: float
    cv_p95_percent: float
    sum_mape_percent: float

    def to_json(self) -> dict[str, Any]:
        """For the table's ``calibration`` document."""
        return asdict(self)


def fit(networks: Networks, *, gpu: bool = False) -> Fit:
    """Fit how ops add up on at least two networks; errors are relative to what was measured.

    Terms are chosen by cross-validation where there are enough networks. ``gpu`` adds those that
    only make sense where ops are kernels.
    """
    choices = [
        choice for choice in _choices(networks, gpu) if choice.networks_needed <= len(networks)
    ] or [TermChoice(("scale",))]
    errors = {choice: _cross_validated(networks, choice) for choice in choices}
    best = _best({choice: float(np.abs(errors[choice]).mean()) for choice in choices})
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
    )


def _choices(networks: Networks, gpu: bool) -> list[TermChoice]:
    single = [TermChoice(terms) for terms in (_PLAIN + _KERNELS if gpu else _PLAIN)]
    if networks.device is None or networks.launch is None:
        return single
    return single + [TermChoice(*terms) for terms in product(_DEVICE, _LAUNCH)]


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


def _needed(terms: Terms) -> int:
    """How many networks it takes to fit these terms and a constant."""
    return _NETWORKS_PER_COEFFICIENT * (len(terms) + 1)


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
    if np.count_nonzero(chosen) >= _needed(terms):
        return _solve(features[chosen], measured[chosen], terms)
    ratios = measured / features[:, _SCALE]
    if chosen.any():
        return Composition(float(np.median(ratios[chosen])))
    return Composition(min(1.0, float(ratios.min())))


def _solve(features: Floats, measured: Floats, terms: Sequence[str]) -> Composition:
    """Non-negative least squares on relative errors."""
    from scipy.optimize import nnls

    columns = [TERMS.index(term) for term in terms]
    design = np.hstack([features[:, columns], np.ones((len(measured), 1))])
    relative = design / measured[:, None]
    size = np.maximum(relative.mean(axis=0), 1e-12)
    # Columns that fit exactly alternate at rounding errors for longer than scipy's default allows.
    steps = _SOLVER_STEPS * len(size)
    solution = nnls(relative / size, np.ones(len(measured)), maxiter=steps)[0] / size
    return Composition(
        **dict(zip(terms, map(float, solution[:-1]), strict=True)),
        constant_ms=float(solution[-1]),
    )
