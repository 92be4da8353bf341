"""Intervals hold for networks that they were not learned on, and only where they were learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.predictors.efficiency.composition import TERMS
from lutra.predictors.efficiency.fitting import Networks, conformal_percent, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.predictors.efficiency.stated_error import StatedError
from lutra.profiler.networks.calibration import calibrate, validate
from lutra.spaces import sample_networks
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, VALIDATION, store_document

pytestmark = pytest.mark.usefixtures("hollow")


@pytest.mark.parametrize("count", [19, 20, 60, 200])
@pytest.mark.parametrize("tail", [2.5, 30.0])
def test_it_covers_95_percent_of_further_networks(count: int, tail: float) -> None:
    """On average over many draws, however heavy the tails of the errors are."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        errors, further = 0.01 * rng.standard_t(tail, (2, count))
        covered.append(np.mean(np.abs(further) <= conformal_percent(errors) / 100.0))
    assert np.mean(covered) >= 0.945


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=18))
def test_of_few_networks_it_is_no_less_than_the_largest_error(errors: list[float]) -> None:
    assert conformal_percent(np.array(errors)) >= 100 * np.abs(errors).max()


@pytest.mark.parametrize("count", [1, 2, 3, 6, 18])
def test_of_few_networks_it_covers_95_percent_too(count: int) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(4000):
        known, further = 0.01 * rng.standard_normal((2, count))
        covered.append(np.mean(np.abs(further) <= conformal_percent(known) / 100.0))
    assert np.mean(covered) >= 0.94


def test_errors_of_the_same_networks_are_not_more_evidence() -> None:
    errors = 0.01 * np.random.default_rng(0).standard_normal(24)
    assert conformal_percent(errors, 2) > 1.5 * conformal_percent(errors)


def test_few_networks_replace_no_interval_of_more(table_path: Path) -> None:
    """Neither calibrating nor validating on a few narrows what more of them told."""
    noisy = FakeDevice(FakeScript(noise=0.05, seed=3))
    calibrate(table_path, device=noisy, networks=20)
    stated = EfficiencyPredictor(table_path).stated
    assert stated is not None
    validation = validate(table_path, device=noisy, networks=3)
    assert validation.networks == 3
    assert EfficiencyPredictor(table_path).stated == stated
    assert calibrate(table_path, device=noisy, networks=2).networks == 20
    again = EfficiencyPredictor(table_path).stated  # the run has told more of the states
    assert again is not None
    assert again.percent == pytest.approx(stated.percent, rel=0.2)
    assert validate(table_path, device=noisy, networks=20).networks == 20  # the three count
    by_many = EfficiencyPredictor(table_path).stated
    assert by_many != stated
    assert validate(table_path, device=noisy, networks=3).networks == 20
    assert EfficiencyPredictor(table_path).stated == by_many


def test_of_two_small_ones_the_larger_counts(table_path: Path) -> None:
    with LatencyTable.open(table_path, write=True) as table:
        latencies = table.op_latencies()
        for name, networks in ((CALIBRATION, 6), (VALIDATION, 4)):
            document: dict[str, object] = {
                "networks": networks,
                "interval_percent": float(networks),
            }
            store_document(table, name, "ofa-mbv3-w1.0", document)
        assert StatedError.read(table, "ofa-mbv3-w1.0", latencies) == StatedError(6.0)
        known: list[tuple[object, float]] = [(6, 6.5), (True, 6.0), ("many", 6.0), (-1, 6.0)]
        for count, percent in known:
            document = {"networks": count, "interval_percent": 6.5}
            store_document(table, VALIDATION, "ofa-mbv3-w1.0", document)
            assert StatedError.read(table, "ofa-mbv3-w1.0", latencies) == StatedError(percent)


def test_elsewhere_is_what_is_fitted_without_a_resolution() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(1.0, 2.0, (30, len(TERMS)))
    resolutions = np.repeat([128, 176, 224], 10)
    measured = features[:, 0] * np.where(resolutions == 224, 1.3, 1.0)
    fitted = fit(Networks(measured, features, resolutions=resolutions))
    assert fitted.elsewhere_percent is not None
    assert fitted.elsewhere_percent > 20.0
    assert fit(Networks(measured, features)).elsewhere_percent is None


def test_a_resolution_that_nothing_was_learned_at_gets_the_wider_one() -> None:
    stated = StatedError(1.0, (128, 224), 3.0)
    assert [stated.at(resolution) for resolution in (128, 176, 224)] == [1.0, 3.0, 1.0]
    assert StatedError(4.0, (128,), 3.0).at(176) == 4.0
    assert StatedError(1.0, (128,)).at(176) is None
    assert StatedError(1.0).at(176) == 1.0


def test_what_a_stale_calibration_says_of_other_resolutions_is_not_stated(
    table_path: Path,
) -> None:
    """A validation of the ops as they are speaks of its own resolutions only."""
    with LatencyTable.open(table_path, write=True) as table:
        latencies = table.op_latencies()
        known = {"networks": 20, "interval_percent": 1.0, "interval_resolutions": [224]}
        for name in (CALIBRATION, VALIDATION):
            store_document(table, name, "ofa-mbv3-w1.0", {**known, "elsewhere_percent": 3.0})
        assert StatedError.read(table, "ofa-mbv3-w1.0", latencies) == StatedError(1.0, (224,), 3.0)
        documents = table.meta(CALIBRATION)
        documents["ofa-mbv3-w1.0"]["ops_digest"] = "of before"
        table.put_meta(CALIBRATION, documents)
        assert StatedError.read(table, "ofa-mbv3-w1.0", latencies) == StatedError(1.0, (224,))


@pytest.mark.parametrize(
    "percent", [10**400, -1, float("nan"), float("inf"), 1e300, "1", None, [1]]
)
def test_what_is_no_percentage_states_nothing(percent: object, table_path: Path) -> None:
    with LatencyTable.open(table_path, write=True) as table:
        table.put_meta(CALIBRATION, {"ofa-mbv3-w1.0": {"interval_percent": percent}})
        assert StatedError.read(table, "ofa-mbv3-w1.0", table.op_latencies()) is None


@pytest.mark.parametrize("known", [None, "224", [224, "x"], {"224": 1}])
def test_what_a_document_says_of_resolutions_may_be_damaged(
    known: object, calibrated: Path
) -> None:
    with LatencyTable.open(calibrated, write=True) as table:
        documents = table.meta(CALIBRATION)
        documents["ofa-mbv3-w1.0"]["interval_resolutions"] = known
        table.put_meta(CALIBRATION, documents)
    predictor = EfficiencyPredictor(calibrated)
    (network,) = sample_networks(predictor.space, [224], 1, 3)
    low, latency, high = (
        predictor.predict_one(network).low_ms,
        predictor.predict_one(network).latency_ms,
        predictor.predict_one(network).high_ms,
    )
    assert low is not None
    assert high is not None
    assert low < latency < high
