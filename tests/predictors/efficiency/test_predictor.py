"""From table to predictions, calibrated and validated on the scripted device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import MissingOpError, TableError, UsageError
from lutra.predictors.efficiency.predictor import STALE, EfficiencyPredictor
from lutra.profiler.networks.calibration import calibrate, validate
from lutra.profiler.networks.validation import Validation
from lutra.profiler.profile import plan, profile
from lutra.profiler.protocols import NETWORK_PROTOCOL
from lutra.profiler.statistics import repeatability_percent
from lutra.profiler.watch import Watch
from lutra.search.find import find_networks
from lutra.spaces import Architecture, get_space, sample_networks
from lutra.tables import LatencyTable, Visit
from lutra.tables.documents import CALIBRATION, VALIDATION
from lutra.tables.measurement import CALIBRATE, VALIDATE
from tests.conftest import SPACE

pytestmark = pytest.mark.usefixtures("hollow")

space = get_space(SPACE)


def predictor_of(path: Path) -> EfficiencyPredictor:
    with LatencyTable.open(path) as table:
        return EfficiencyPredictor(table)


def rows(count: int, seed: int = 0) -> npt.NDArray[Any]:
    return space.sample(count, np.random.default_rng(seed), [224])


def test_uncalibrated_is_the_plain_sum(table_path: Path) -> None:
    predictor = predictor_of(table_path)
    with LatencyTable.open(table_path) as table:
        latencies = table.op_latencies()
    for row in rows(10):
        architecture = space.decode(row)
        expected = sum(latencies[op.key] for op in space.ops_of(architecture))
        assert predictor.predict(row[None, :])[0] == pytest.approx(expected)
        assert predictor.predict_one(architecture).latency_ms == pytest.approx(expected)
    assert not predictor.calibrated
    assert predictor.interval(3.0, 224) == (None, None)


def test_breakdown_adds_up(table_path: Path) -> None:
    predictor = predictor_of(table_path)
    architecture = space.decode(rows(1)[0])
    parts = predictor.breakdown(architecture)
    assert [part.key for part in parts] == [op.key for op in space.ops_of(architecture)]
    total = sum(part.predicted_ms for part in parts) + predictor.composition.constant_ms
    assert total == pytest.approx(predictor.predict_one(architecture).latency_ms)


def test_macs_and_params_are_the_graph_s(table_path: Path) -> None:
    predictor = predictor_of(table_path)
    architecture = space.decode(rows(1, seed=9)[0])
    prediction = predictor.predict_one(architecture)
    graph = space.graph(architecture)
    assert (prediction.macs, prediction.params) == (graph.macs, graph.params)


def test_other_resolutions_are_missing_ops_not_numbers(table_path: Path) -> None:
    predictor = predictor_of(table_path)
    row = space.sample(1, np.random.default_rng(0), [160])
    assert np.isnan(predictor.predict(row)[0])
    with pytest.raises(MissingOpError, match=r"lacks \d+ needed op configurations, such as"):
        predictor.predict_one(space.decode(row[0]))


def test_a_failed_op_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "holes.lut"
    script = FakeScript(failures={3: "load"})
    asked: dict[str, Any] = {
        "resolutions": [128],
        "protocol": replace(NETWORK_PROTOCOL, rounds=2),
        "networks": 0,
    }
    assert profile(FakeDevice(script), space, path, **asked).failed == 1
    predictor = predictor_of(path)
    predicted = predictor.predict(space.sample(300, np.random.default_rng(0), [128]))
    assert np.isnan(predicted).any()
    assert plan("fake", space, path, **asked).missing == 1


def test_calibration_is_stored_and_used(calibrated: Path) -> None:
    predictor = predictor_of(calibrated)
    assert predictor.calibrated
    low, high = predictor.interval(10.0, 224)
    assert low is not None
    assert high is not None
    assert low < 10.0 < high


@pytest.mark.parametrize(("error", "networks"), [(50.0, 8), (1e-9, 32)])
def test_networks_are_added_until_the_error_asked_for(
    table_path: Path, error: float, networks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lutra.profiler.networks.calibration._MOST_NETWORKS", 40)
    fitted = calibrate(table_path, networks=8, error_percent=error, rounds=2)
    assert fitted.networks == networks
    with LatencyTable.open(table_path) as table:
        assert len(table.rows("network", CALIBRATE)) == networks


def test_a_budget_ends_adding_networks(table_path: Path) -> None:
    calibrate(table_path, networks=8)
    watch = Watch(budget_seconds=0.0)
    assert calibrate(table_path, networks=8, error_percent=1e-9, watch=watch).networks == 8


@pytest.mark.parametrize("changed", [{"constant_ms": -1e6}, {"scale": 0.0}, {"scale": -1.0}])
def test_a_calibration_that_takes_no_time_is_refused(
    calibrated: Path, changed: dict[str, float]
) -> None:
    with LatencyTable.open(calibrated, write=True) as table:
        documents = table.meta(CALIBRATION)
        nothing: dict[str, object] = dict.fromkeys(documents[SPACE]["composition"], 0.0)
        documents[SPACE]["composition"] = {**nothing, "stages": {}, **changed}
        table.put_meta(CALIBRATION, documents)
    predictor = EfficiencyPredictor(calibrated)
    with pytest.raises(TableError, match="networks take no time"):
        predictor.predict(rows(3))
    (network,) = sample_networks(predictor.space, [224], 1, 3)
    with pytest.raises(TableError, match="networks take no time"):
        predictor.predict_one(network)


@pytest.mark.parametrize("value", [1e300, 10**400, float("inf"), -1e13])
def test_a_coefficient_that_no_fit_has_is_refused(calibrated: Path, value: float) -> None:
    with LatencyTable.open(calibrated, write=True) as table:
        documents = table.meta(CALIBRATION)
        documents[SPACE]["composition"]["scale"] = value
        table.put_meta(CALIBRATION, documents)
    with pytest.raises(TableError, match="calibration is damaged"):
        EfficiencyPredictor(calibrated)


@pytest.mark.parametrize("changed", [{"typical": 5e-324}, {"noise": 1e300}, {"columns": [10**30]}])
def test_a_spread_that_no_fit_has_is_refused(calibrated: Path, changed: dict[str, object]) -> None:
    with LatencyTable.open(calibrated, write=True) as table:
        documents = table.meta(CALIBRATION)
        documents[SPACE]["spread"].update(changed)
        table.put_meta(CALIBRATION, documents)
    with pytest.raises(TableError, match="calibration is damaged"):
        EfficiencyPredictor(calibrated)


def test_a_calibration_is_stale_once_ops_are_measured_again(calibrated: Path) -> None:
    assert validate(calibrated, networks=6).networks == 6
    assert not predictor_of(calibrated).stale
    with LatencyTable.open(calibrated, write=True) as table:
        row = table.rows("op")[0]
        (visit, *_) = table.visits("op", row.key)
        assert row.measurement is not None
        slower = replace(row.measurement, latency_ms=1.01 * row.measurement.latency_ms)
        table.record_visit("op", row.key, visit, slower)
    predictor = predictor_of(calibrated)
    assert predictor.calibrated
    assert predictor.stale
    assert predictor.stated is None
    assert predictor.interval(10.0, 224) == (None, None)
    found = find_networks(predictor.path, max_latency_ms=30.0, algorithm="random")
    assert found.best.predicted_low_ms is None
    assert f"{STALE}: the error of predictions is not known" in found.notes

    assert validate(calibrated, networks=6).networks == 6  # says the error of what there is now
    validated = predictor_of(calibrated)
    assert validated.stated is not None
    assert validated.staleness([224]) == STALE
    unknown = f"{STALE}: the error of predictions at 128 is not known"
    assert validated.staleness([224, 128]) == unknown
    calibrate(calibrated, networks=6)
    assert not predictor_of(calibrated).stale
    assert predictor_of(calibrated).staleness([128]) is None


def test_a_calibration_of_before_states_were_kept_is_taken_at_its_word(calibrated: Path) -> None:
    with LatencyTable.open(calibrated, write=True) as table:
        documents = table.meta(CALIBRATION)
        del documents[SPACE]["ops_digest"]
        table.put_meta(CALIBRATION, documents)
    predictor = predictor_of(calibrated)
    assert not predictor.stale
    assert predictor.stated is not None


def test_validation_uses_fresh_networks_and_is_stored(calibrated: Path) -> None:
    validation = validate(calibrated, networks=15)
    with LatencyTable.open(calibrated) as table:
        fitted = {row.key for row in table.rows("network", CALIBRATE)}
        fresh = {row.key for row in table.rows("network", VALIDATE)}
        assert table.meta(VALIDATION)[SPACE]["networks"] == 15
    assert len(fresh) == 15
    assert not fitted & fresh
    assert validation.mape_percent < 0.5
    assert validation.within_5_percent == 100.0
    assert validation.kendall_tau > 0.99
    stated = predictor_of(calibrated).stated
    assert stated is not None
    assert stated.percent == pytest.approx(validation.interval_percent)
    assert stated.at(224) == stated.percent >= validation.p95_percent


def test_calibrating_again_withdraws_the_validation(calibrated: Path) -> None:
    with LatencyTable.open(calibrated, write=True) as table:
        validate(table, networks=4)
        calibrate(table, networks=12)
        assert table.meta(VALIDATION)[SPACE] is None
        assert table.meta(CALIBRATION)[SPACE]["networks"] == 12


def test_calibration_needs_the_ops_first(tmp_path: Path) -> None:
    path = tmp_path / "empty.lut"
    device = FakeDevice(FakeScript())
    profile(device, space, path, watch=Watch(budget_seconds=0.0))
    with pytest.raises(MissingOpError, match="lutra profile"):
        calibrate(path)


def test_networks_that_all_fail_are_an_error(table_path: Path) -> None:
    script = FakeScript(failures=dict.fromkeys(range(300), "load"))
    with pytest.raises(TableError, match="only 0 networks could be measured"):
        calibrate(table_path, device=FakeDevice(script), networks=4)


def test_validation_arithmetic() -> None:
    measured = np.array([10.0, 20.0, 30.0, 40.0])
    predicted = np.array([10.4, 19.4, 30.0, 46.0])
    result = Validation.of(predicted, measured, 0.7)
    assert result.mape_percent == pytest.approx((4 + 3 + 0 + 15) / 4)
    assert result.bias_percent == pytest.approx((4 - 3 + 0 + 15) / 4)
    assert result.max_percent == pytest.approx(15.0)
    assert result.within_5_percent == 75.0
    assert result.within_10_percent == 75.0
    assert result.kendall_tau == pytest.approx(1.0)
    assert result.repeatability_percent == 0.7


def test_repeatability_compares_odd_and_even_processes() -> None:
    template = Visit(1, 1, 1.0, 1.0, 1.0, 5, 1, 0.1, 0.0)
    visits = [
        replace(template, round=n, process=5 + n // 4, low_ms=1.0 + 0.02 * (n // 4 % 2))
        for n in range(12)
    ]
    assert repeatability_percent(visits) == pytest.approx(100 * 0.02 / 1.01)
    another_day = [replace(visit, run=2, low_ms=2.0, process=9) for visit in visits[:5]]
    assert repeatability_percent([*visits, *another_day]) == repeatability_percent(visits)
    assert repeatability_percent(visits[:4]) is None


def test_sampled_networks_are_distinct_and_spread_over_resolutions() -> None:
    networks = sample_networks(space, [128, 160, 224], 30, seed=1)
    assert len(set(networks)) == 30
    assert {item.r for item in networks} == {128, 160, 224}
    assert networks == sample_networks(space, [128, 160, 224], 30, seed=1)
    assert networks != sample_networks(space, [128, 160, 224], 30, seed=2)


def test_a_table_of_two_spaces_must_be_told_which(table_path: Path) -> None:
    other = get_space("ofa-proxyless-w1.0")
    profile(
        FakeDevice(FakeScript()),
        other,
        table_path,
        resolutions=[128],
        watch=Watch(budget_seconds=0.0),
    )
    with LatencyTable.open(table_path) as table:
        with pytest.raises(UsageError, match="name one with --space"):
            EfficiencyPredictor(table)
        assert EfficiencyPredictor(table, SPACE).space is space
        with pytest.raises(TableError, match="was not profiled for ofa-resnet50d"):
            EfficiencyPredictor(table, "ofa-resnet50d")


def test_an_architecture_of_another_space_is_refused(table_path: Path) -> None:
    predictor = predictor_of(table_path)
    foreign = Architecture("ofa-mbv3-w1.2", 224, {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5})
    with pytest.raises(Exception, match="of space 'ofa-mbv3-w1.2'"):
        predictor.predict_one(foreign)
