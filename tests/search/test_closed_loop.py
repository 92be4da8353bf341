"""A search that measures what it finds: what it says of the budget holds on the device."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.fake import FakeDevice
from lutra.errors import DeviceError, InfeasibleError, UsageError
from lutra.predictors.accuracy import Accuracies, OfaMlpPredictor, load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.networks.calibration import calibrate, validate
from lutra.profiler.plan import FEW_ANCHORS, nearest
from lutra.profiler.profile import profile
from lutra.profiler.protocols import NETWORK_PROTOCOL
from lutra.profiler.watch import Progress, Watch
from lutra.search.find import find_networks, half_way_budget_ms
from lutra.search.measuring.caution import Caution, deviations_of, upper_ms
from lutra.search.measuring.closed_loop import find_within_budget
from lutra.search.result import SearchResult
from lutra.spaces import Rows
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, VALIDATION, read_document
from lutra.tables.measurement import CALIBRATE, VERIFY
from tests.machines import machine
from tests.search.known_networks import KnownNetworks

pytestmark = pytest.mark.usefixtures("hollow")

SPACE = "ofa-mbv3-fashion"
QUICK: dict[str, Any] = {"algorithm": "random", "hyperparameters": {"samples": 500}}


@dataclass(frozen=True)
class Calibrated:
    """A table of the scripted device, and the networks that it was made with."""

    path: Path
    known: KnownNetworks
    budget_ms: float


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    path, known = tmp_path_factory.mktemp("loop") / "cpu.lut", KnownNetworks()
    device = known.device_of_table()
    profile(device, SPACE, path, resolutions=[28], networks=12)
    calibrate(path, device=device, networks=12)
    budget_ms = half_way_budget_ms(EfficiencyPredictor(path), load_accuracy(space=SPACE))
    return Calibrated(path, known, budget_ms)


@pytest.fixture
def table(calibrated: Calibrated, tmp_path: Path) -> Path:
    return Path(shutil.copy(calibrated.path, tmp_path))


@pytest.fixture
def budget_ms(calibrated: Calibrated) -> float:
    return calibrated.budget_ms


DeviceWhere = Callable[[Callable[[str], float]], FakeDevice]


@pytest.fixture
def device_where(calibrated: Calibrated) -> DeviceWhere:
    """Devices on which networks that the table does not know take ``factor(name)`` as long."""

    return calibrated.known.device_where


def test_what_it_ends_with_keeps_the_budget(
    table: Path, budget_ms: float, device_where: DeviceWhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every network takes up to 3 % more or less than its parts say, which nothing predicts."""
    predict = OfaMlpPredictor.predict
    predicted: list[bytes] = []

    def own(name: str) -> float:
        return random.Random(name).gauss(1.0, 0.015)

    seen: list[SearchResult] = []

    def predict_noted(self: OfaMlpPredictor, rows: Rows) -> Accuracies:
        predicted.extend(row.tobytes() for row in rows)
        return predict(self, rows)

    plain = find_networks(table, max_latency_ms=budget_ms, **QUICK)
    monkeypatch.setattr(OfaMlpPredictor, "predict", predict_noted)
    device = device_where(own)
    result = find_within_budget(table, budget_ms, device=device, on_result=seen.append, **QUICK)
    assert len(predicted) == len(set(predicted)) < result.evaluations, "none is predicted twice"
    loop = result.closed_loop
    assert loop is not None
    verified = [each.verified for each in result.candidates if each.verified]
    assert len(verified) == loop.measured == len(result.candidates)
    kept = [each for each in verified if each.within_budget]
    assert len(kept) == loop.kept > 0
    assert all(each.upper_ms <= budget_ms for each in kept)
    assert all(each.measured_ms <= each.ci_high_ms for each in verified)
    assert all(each.measured_ms <= each.upper_ms for each in verified)
    accuracies = [each.accuracy for each in result.candidates[: loop.kept]]
    assert all(first >= second for first, second in pairwise(accuracies))
    assert loop.accuracy_cost == plain.best.accuracy - accuracies[0]
    iterations = [each.closed_loop.iterations for each in seen if each.closed_loop]
    assert sorted(set(iterations)) == list(range(1, loop.iterations + 1))
    assert iterations == sorted(iterations)
    assert result.evaluations > plain.evaluations, "those of every search"
    assert result.evaluations % plain.evaluations == 0
    assert result.cpu_seconds >= max(each.cpu_seconds for each in seen[:-1]) > 0
    assert any(f"{loop.kept} of the {loop.measured} candidates" in note for note in result.notes)


def test_what_was_measured_stays_in_the_table_and_teaches_it(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    before = calibration(table)
    device = device_where(lambda name: 1.04)
    result = find_within_budget(table, budget_ms, device=device, **QUICK)
    with LatencyTable.open(table) as opened:
        rows = {row.key: row.measurement for row in opened.rows("network", VERIFY)}
    for candidate in result.candidates:
        measured = rows[candidate.architecture.key]
        assert measured is not None
        assert candidate.verified is not None
        assert candidate.verified.measured_ms == measured.latency_ms
    assert calibration(table)["networks"] == before["networks"] + len(rows)
    predictor = EfficiencyPredictor(table)
    errors = [
        candidate.verified.measured_ms / predictor.predict_one(candidate.architecture).latency_ms
        for candidate in result.candidates
        if candidate.verified
    ]
    assert sum(errors) / len(errors) < 1.03, "it predicts them better than before"


def calibration(table: Path) -> dict[str, int]:
    with LatencyTable.open(table) as opened:
        return read_document(opened, CALIBRATION, SPACE) or {}


def test_it_learns_how_far_off_predictions_are(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    """Whatever it finds takes 5 % more than is predicted, far more than the stated error."""
    device = device_where(lambda name: 1.05)
    result = find_within_budget(table, budget_ms, device=device, **QUICK)
    loop = result.closed_loop
    assert loop is not None
    assert loop.kept >= 1
    assert loop.margin_percent > 4.0
    if loop.iterations > 1:
        assert loop.kept < loop.measured


def test_predictions_that_are_too_slow_are_no_limit(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    device = device_where(lambda name: 0.94)
    result = find_within_budget(table, budget_ms, device=device, **QUICK)
    loop = result.closed_loop
    assert loop is not None
    assert loop.margin_percent < 0.0
    assert loop.accuracy_cost is not None
    assert loop.accuracy_cost <= 0.05


def test_when_none_keeps_it_it_says_by_how_much(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    device = device_where(lambda name: 2.5)
    result = find_within_budget(table, budget_ms, device=device, iterations=1, **QUICK)
    loop = result.closed_loop
    assert loop is not None
    assert (loop.kept, loop.accuracy_cost) == (0, None)
    nearest = result.best.verified
    assert nearest is not None
    assert nearest.within_budget is False
    excess = 100.0 * (nearest.upper_ms / budget_ms - 1.0)
    assert any(f"is over it by {excess:.1f} %" in note for note in result.notes)


def test_the_result_so_far_is_there_when_the_device_disappears(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    device = device_where(lambda name: 1.6)
    seen: list[SearchResult] = []

    def keep(result: SearchResult) -> None:
        seen.append(result)
        answered = device.script.answered
        device.script.failures = {n: "crash" for n in range(answered, answered + 10_000)}

    before = calibration(table)
    with pytest.raises(DeviceError):
        find_within_budget(table, budget_ms, device=device, on_result=keep, **QUICK)
    assert all(each.closed_loop and each.closed_loop.measured > 0 for each in seen)
    assert seen[0].candidates == seen[-1].candidates
    assert calibration(table)["networks"] > before["networks"], "what was measured is learnt from"


def test_what_is_measured_is_learnt_from_when_it_is_interrupted(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    """In the first iteration, before any network is done."""
    validate(table, device=device_where(lambda name: 1.0), networks=4)
    before = calibration(table)
    visits = 0

    def interrupt(progress: Progress) -> None:
        nonlocal visits
        visits += 1
        if visits == 40:
            raise KeyboardInterrupt

    watch = Watch(on_progress=interrupt)
    device = device_where(lambda name: 1.04)
    with pytest.raises(KeyboardInterrupt):
        find_within_budget(table, budget_ms, device=device, watch=watch, **QUICK)
    with LatencyTable.open(table) as opened:
        found = len(opened.rows("network", VERIFY))
        assert read_document(opened, VALIDATION, SPACE) is None
    assert calibration(table)["networks"] == before["networks"] + found > before["networks"]


def test_what_it_ends_with_was_measured_twice_as_often(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    """What luck let in is put out again, and what is left rests on more processes."""
    device = device_where(lambda name: random.Random(name).gauss(1.0, 0.02))
    result = find_within_budget(table, budget_ms, device=device, **QUICK)
    assert result.closed_loop is not None
    assert result.closed_loop.kept > 0
    with LatencyTable.open(table) as opened:
        visits = opened.visits("network", result.best.architecture.key)
    least = NETWORK_PROTOCOL.in_short_visits().rule.min_rounds
    assert len([visit for visit in visits if not visit.flags]) >= 2 * least
    assert len({visit.run for visit in visits}) == 2


def test_networks_of_its_size_tell_the_state(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    device = device_where(lambda name: 1.0)
    result = find_within_budget(table, budget_ms, device=device, iterations=1, **QUICK)
    predicted = {each.architecture.key: each.predicted_ms for each in result.candidates}
    with LatencyTable.open(table) as opened:
        rows = opened.rows("network", CALIBRATE)
        known = {row.key: row.measurement.latency_ms for row in rows if row.measurement}
        runs = {
            key: {visit.run for visit in opened.visits("network", key)}
            for key in (*known, *predicted)
        }
    for run in set.union(*(runs[key] for key in predicted)):
        beside = {key for key in known if run in runs[key]}
        near_ms = [ms for key, ms in predicted.items() if run in runs[key]]
        assert len(beside) == FEW_ANCHORS < len(known)
        for latency_ms in near_ms:
            (closest,) = nearest(known, [latency_ms], 1)
            assert closest in beside


def test_next_to_the_fastest_subnet_something_is_measured_too(
    table: Path, device_where: DeviceWhere
) -> None:
    fastest = EfficiencyPredictor(table).latency.cheapest([28])[0]
    device = device_where(lambda name: 0.9)
    result = find_within_budget(table, 1.0001 * fastest, device=device, iterations=1, **QUICK)
    assert result.closed_loop is not None
    assert result.closed_loop.measured > 0


def test_without_time_it_says_that_nothing_was_measured(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    watch = Watch(budget_seconds=0.0)
    device = device_where(lambda name: 1.0)
    result = find_within_budget(table, budget_ms, device=device, watch=watch, **QUICK)
    assert result.closed_loop is not None
    assert result.closed_loop.measured == 0
    assert "nothing was measured: there was no time" in result.notes


def test_a_validation_that_is_withdrawn_is_said_to(
    table: Path, budget_ms: float, device_where: DeviceWhere
) -> None:
    validate(table, device=device_where(lambda name: 1.0), networks=4)
    device = device_where(lambda name: 1.0)
    result = find_within_budget(table, budget_ms, device=device, iterations=1, **QUICK)
    assert "withdrawn" in result.notes[-1]


def test_the_result_is_read_as_it_was_written(
    table: Path, budget_ms: float, device_where: DeviceWhere, tmp_path: Path
) -> None:
    device = device_where(lambda name: 1.0)
    result = find_within_budget(table, budget_ms, device=device, iterations=1, **QUICK)
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result


def test_what_cannot_be_asked_for(table: Path) -> None:
    device = FakeDevice(machine())
    with pytest.raises(UsageError, match="a confidence of 1.5 is not from 0.5 to 0.999"):
        find_within_budget(table, 2.0, device=device, confidence=1.5)
    with pytest.raises(UsageError, match="name the budget that is to be kept"):
        find_within_budget(table, None, device=device)
    with pytest.raises(UsageError, match="at least one candidate"):
        find_within_budget(table, 2.0, device=device, candidates=0)
    with pytest.raises(InfeasibleError, match="the fastest subnet"):
        find_within_budget(table, 0.001, device=device, **QUICK)


# caution


@given(st.none() | st.floats(0.0, 50.0), st.lists(st.floats(0.5, 2.0), max_size=8))
def test_more_confidence_is_more_caution(stated: float | None, ratios: list[float]) -> None:
    caution = Caution(stated)
    caution.learn([1.0] * len(ratios), ratios, [0.01] * len(ratios))
    factors = [caution.factor(deviations) for deviations in (0.0, 1.0, 2.0)]
    assert all(low < high for low, high in pairwise(factors))


@given(st.floats(0.8, 1.25), st.floats(0.5, 5.0))
def test_what_is_seen_often_is_believed(ratio: float, stated: float) -> None:
    caution = Caution(stated)
    before = caution.factor(1.645) / caution.factor(0.0)
    assert caution.factor(0.0) == 1.0
    caution.learn([2.0] * 200, [2.0 * ratio] * 200, [0.001] * 200)
    assert caution.factor(0.0) == pytest.approx(ratio, rel=0.002)
    assert caution.factor(1.645) / caution.factor(0.0) < before


@given(st.floats(1.05, 3.0))
def test_a_burst_of_other_work_is_no_error_of_predictions(burst: float) -> None:
    """One candidate of five, however far off it is, hardly moves the others' limit."""
    quiet, disturbed = Caution(3.0), Caution(3.0)
    quiet.learn([1.0] * 5, [0.99, 0.995, 1.0, 1.005, 1.01], [0.002] * 5)
    disturbed.learn([1.0] * 5, [0.99, 0.995, 1.0, 1.005, burst], [0.002] * 5)
    assert disturbed.factor(1.645) < quiet.factor(1.645) + 0.03


@given(st.floats(-3.0, 3.0))
def test_deviations_and_factors_are_each_other_s_inverse(deviations: float) -> None:
    caution = Caution(3.0)
    caution.learn([1.0, 1.0], [1.02, 1.03], [0.005, 0.005])
    assert caution.deviations_at(caution.factor(deviations)) == pytest.approx(deviations, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.003, 0.01]), st.sampled_from([0.004, 0.02]))
def test_the_fastest_of_many_is_not_believed_to_be_so_fast(
    seed: int, own: float, noise: float
) -> None:
    """Its luck is taken off it: over many the error of what is believed is what is stated."""
    rng = np.random.default_rng(seed)
    off = []
    for _ in range(40):
        takes = np.exp(0.01 * rng.standard_normal() + own * rng.standard_normal(20))
        measured = takes * np.exp(noise * rng.standard_normal(20))
        caution = Caution(2.0)
        caution.learn([1.0] * 20, measured.tolist(), [noise] * 20)
        fastest = int(measured.argmin())
        believed_ms, deviation = caution.believed(1.0, float(measured[fastest]), noise)
        off.append(math.log(takes[fastest] / believed_ms) / deviation)
        assert deviation <= 1.1 * noise
    assert abs(np.mean(off)) < 1.0


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("noise", "share"), [(0.003, 0.9), (0.01, 0.88), (0.03, 0.78)])
def test_few_that_were_measured_badly_are_not_believed_exactly(
    count: int, noise: float, share: float
) -> None:
    """Also where predictions are off by far more than is stated, as those of found networks are."""
    rng = np.random.default_rng(count)
    kept = []
    for _ in range(400):
        takes = np.exp(0.04 + 0.004 * rng.standard_normal(count))
        measured = takes * np.exp(noise * rng.standard_normal(count))
        caution = Caution(1.0)
        caution.learn([1.0] * count, measured.tolist(), [noise] * count)
        believed_ms, deviation = caution.believed(1.0, float(measured[0]), noise)
        kept.append(takes[0] <= believed_ms * (1.0 + deviations_of(0.95) * deviation))
    assert np.mean(kept) >= share


def test_the_stated_error_is_the_margin_before_anything_is_measured() -> None:
    assert Caution(4.0).factor(deviations_of(0.975)) == pytest.approx(1.04, rel=0.001)


@given(st.floats(0.1, 10.0), st.floats(1.0, 1.2), st.floats(0.0, 0.1))
def test_the_upper_limit_is_above_the_interval(ms: float, ratio: float, spread: float) -> None:
    upper = upper_ms(ms, ms * ratio, spread, deviations_of(0.95))
    assert upper >= ms * ratio * (1 - 1e-12)
    assert upper >= ms * (1 + deviations_of(0.95) * spread) * (1 - 1e-12)


def test_the_upper_limit_is_further_above_what_another_state_was_brought_from() -> None:
    same, brought = (upper_ms(4.0, 4.1, 0.01, 1.645, by) for by in (0.0, 0.02))
    assert same == upper_ms(4.0, 4.1, 0.01, 1.645)
    assert brought == pytest.approx(4.0 * (1.0 + math.hypot(same / 4.0 - 1.0, 1.645 * 0.02)))
