"""Fitting how parts add up: known truths are found again, in one form or the larger of two."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lutra.predictors.efficiency.composition import (
    Composition,
    kernel_counts,
    op_features,
    stages_of,
)
from lutra.predictors.efficiency.fitting import Fit, Forms, Networks, TermChoice, fit
from lutra.predictors.efficiency.host_and_device import network_sums
from lutra.spaces import get_space
from tests.conftest import SPACE

Floats = npt.NDArray[np.float64]

space = get_space(SPACE)
STAGES = stages_of(space.ops)


def summed(latencies: Floats, count: int, seed: int) -> Floats:
    """(networks, terms) of random networks."""
    rows = space.sample(count, np.random.default_rng(seed))
    return network_sums(space, op_features(space.ops, latencies), rows)


def alone_ms(seed: int) -> Floats:
    """Made-up op latencies that grow with MACs."""
    macs = np.array([op.macs for op in space.ops])
    noise = np.random.default_rng(seed).uniform(0.7, 1.3, len(macs))
    latencies: Floats = 0.01 + macs / 2e7 * noise
    return latencies


def network_features(count: int, seed: int) -> Floats:
    return summed(alone_ms(seed), count, seed)


def one_form(count: int, seed: int, truth: Composition) -> Networks:
    features = network_features(count, seed)
    return Networks(truth.totals(features, STAGES), features, stages=STAGES)


def two_forms(count: int, seed: int, truth: Forms, launch_factor: float) -> Networks:
    """Networks of which the device rules some and the host others."""
    device_ms = alone_ms(0)
    launch_ms = launch_factor * kernel_counts(space.ops)
    device, launch = (summed(ms, count, seed) for ms in (device_ms, launch_ms))
    alone = summed(np.maximum(device_ms, launch_ms), count, seed)
    unmeasured = Networks(np.ones(count), alone, device, launch, stages=STAGES)
    return replace(unmeasured, measured_ms=truth.predict(unmeasured))


def forms_of(fitted: Fit) -> Forms:
    return Forms(fitted.composition, fitted.launch)


def worst(fitted: Fit, networks: Networks) -> float:
    """The largest relative error."""
    return float(np.abs(forms_of(fitted).predict(networks) / networks.measured_ms - 1).max())


truths = st.builds(
    Composition,
    st.floats(0.5, 1.5),
    st.floats(0.0, 0.05),
    st.floats(0.0, 0.1),
    st.floats(0.0, 0.1),
    st.floats(0.0, 0.5),
)


@settings(max_examples=20, deadline=None)
@given(truths)
def test_noiseless_truth_is_predicted(truth: Composition) -> None:
    assert worst(fit(one_form(40, 0, truth)), one_form(40, 1, truth)) < 0.02


def test_few_networks_change_little() -> None:
    """Two networks that take 10 % more are no reason to think much of weights or borders."""
    fitted = fit(one_form(2, 0, Composition(1.1)))
    assert fitted.composition.scale == pytest.approx(1.1, rel=0.05)
    assert worst(fitted, one_form(40, 1, Composition(1.1))) < 0.05


def test_what_ops_pay_alone_and_networks_do_not_is_taken_off() -> None:
    truth = Composition(1.0, border_ms_per_mb=0.02, constant_ms=-0.3)
    fitted = fit(one_form(40, 0, truth))
    assert fitted.composition.constant_ms < 0.0
    assert worst(fitted, one_form(40, 1, truth)) < 0.02


def test_noise_is_reported_not_fitted() -> None:
    features = network_features(40, 0)
    noise = np.random.default_rng(1).normal(1.0, 0.03, 40)
    fitted = fit(Networks(features[:, 0] * noise, features, stages=STAGES))
    assert 1.0 < fitted.cv_mape_percent < 4.0
    assert fitted.cv_p95_percent > fitted.cv_mape_percent


@settings(max_examples=8, deadline=None)
@example(  # scipy's solver needs more steps for it than its default
    device=1.0, launch=0.8744302705041945, constant=0.0, launch_factor=0.1335030961947573
)
@given(
    device=st.floats(0.7, 1.3),
    launch=st.floats(0.7, 1.3),
    constant=st.floats(0.0, 0.1),
    launch_factor=st.floats(0.1, 0.2),
)
def test_the_larger_of_two_is_found_again(
    device: float, launch: float, constant: float, launch_factor: float
) -> None:
    truth = Forms(Composition(device, constant_ms=constant), Composition(launch))
    train, test = (two_forms(40, seed, truth, launch_factor) for seed in (0, 1))
    assert worst(fit(train), test) < 0.02


def test_the_larger_of_two_is_chosen_only_where_it_predicts_better() -> None:
    mixed = Forms(Composition(0.9), Composition(1.1))
    fitted = fit(two_forms(40, 0, mixed, 0.12))
    assert fitted.launch is not None
    assert fitted.launch_terms
    networks = two_forms(40, 0, mixed, 0.12)
    additive = replace(networks, measured_ms=0.9 * networks.features[:, 0])
    assert fit(additive).launch is None


def test_two_forms_are_preferred_to_one_that_is_as_good() -> None:
    """All are launch-bound, so that both say the same of them."""
    networks = two_forms(30, 0, Forms(Composition(), Composition()), 1.0)
    noise = np.random.default_rng(0).normal(1.0, 0.01, 30)
    noisy = replace(networks, measured_ms=networks.measured_ms * noise)
    assert fit(noisy).launch is not None


@pytest.mark.parametrize("launch_factor", [1e-6, 10.0])
@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_a_form_that_rules_nowhere_stays_below_what_was_measured(
    launch_factor: float, count: int
) -> None:
    networks = two_forms(count, 0, Forms(Composition(), Composition()), launch_factor)
    forms = TermChoice(("scale",), ("scale",)).solve(networks)
    device_ms, launch_ms = forms.both(networks)
    assert (np.maximum(device_ms, launch_ms) <= 1.05 * networks.measured_ms).all()


def test_a_form_that_would_rule_wrongly_is_held_down() -> None:
    networks = two_forms(20, 0, Forms(Composition(), Composition(0.0)), 0.11)
    forms = TermChoice(("scale",), ("scale",)).solve(networks)
    error = np.abs(forms.predict(networks) / networks.measured_ms - 1.0)
    assert error.mean() < 0.05


measured = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30)


@settings(max_examples=15, deadline=None)
@given(measured, st.floats(1e-3, 10.0), st.integers(0, 10))
def test_whatever_was_measured_coefficients_are_sane(
    latencies: list[float], launch_factor: float, seed: int
) -> None:
    """Finite, and the same again: each form is below the prediction."""
    unmeasured = two_forms(len(latencies), seed, Forms(Composition(), Composition()), launch_factor)
    networks = replace(unmeasured, measured_ms=np.array(latencies))
    fitted = fit(networks)
    for candidate in (forms_of(fitted), TermChoice(("scale",), ("scale",)).solve(networks)):
        for composition in filter(None, (candidate.composition, candidate.launch)):
            terms = composition.to_json()
            values = [*terms.pop("stages").values(), *terms.values()]
            assert all(map(np.isfinite, values))
        if candidate.launch is not None:
            for form in candidate.both(networks):
                assert (candidate.predict(networks) >= form).all()
    assert fit(networks) == fitted


def test_a_fit_is_json() -> None:
    truth = Forms(Composition(0.9), Composition(1.1))
    fitted = fit(two_forms(40, 0, truth, 0.12))
    document: dict[str, Any] = json.loads(json.dumps(fitted.to_json()))
    assert Composition.from_json(document["composition"]) == fitted.composition
    assert Composition.from_json(document["launch"]) == fitted.launch
    assert document["launch_terms"][0] == "scale"
