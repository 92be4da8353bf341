"""A search that trains ends with a network that keeps its budget on the device, or says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import lutra
from lutra.devices.fake import FakeDevice
from lutra.errors import TargetMismatchError, UsageError
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.profile import profile
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.search.candidate import Candidate
from lutra.search.measuring.measured import MeasuredCandidates
from lutra.search.question import Maxima, Question, ask
from lutra.search.training.keeping import ITERATIONS, Keeping
from lutra.search.training.single_path import train_single_path
from lutra.spaces import sample_networks
from lutra.supernets.checkpoints.network import load_network
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, read_document
from lutra.tables.measurement import VERIFY
from tests.conftest import SMALL_SPACE
from tests.search.known_networks import KnownNetworks
from tests.supernets.images import write_idx


@dataclass(frozen=True)
class Calibrated:
    """A table of the scripted device, and the networks that it was made with."""

    path: Path
    known: KnownNetworks


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    path, known = tmp_path_factory.mktemp("keeping") / "cpu.lut", KnownNetworks()
    profile(known.device_of_table(), SMALL_SPACE, path, resolutions=[28], networks=6)
    return Calibrated(path, known)


@pytest.fixture
def table(calibrated: Calibrated, tmp_path: Path) -> Path:
    return Path(shutil.copy(calibrated.path, tmp_path))


DeviceWhere = Callable[[float], FakeDevice]


@pytest.fixture
def device_where(calibrated: Calibrated) -> DeviceWhere:
    """Devices on which networks that the table does not know take ``factor`` times as long."""

    return lambda factor: calibrated.known.device_where(lambda name: factor)


@dataclass
class Training:
    """Ends with the slowest of some networks within its limit, as a training would."""

    question: Question
    limits_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        predictor = self.question.predictor
        _, fastest = predictor.latency.cheapest([28])
        drawn = sample_networks(predictor.space, [28], 200, 5)
        self._rows = np.stack([fastest, *(predictor.space.encode(each) for each in drawn)])
        self._ms = predictor.predict(self._rows)

    def go_on(self, limit_ms: float) -> Candidate:
        self.limits_ms.append(limit_ms)
        fitting = np.where(self._ms <= limit_ms, self._ms, 0.0)
        index = int(fitting.argmax()) if fitting.any() else 0
        (found,) = self.question.candidates(self._rows[index][None], np.array([np.nan]))
        return found


@pytest.fixture
def training(table: Path) -> Training:
    return Training(ask(table, Maxima(latency_ms=2.0), resolutions=[28]))


def keeping(
    table: Path,
    device: FakeDevice,
    training: Training,
    watch: Watch = UNWATCHED,
    budget_ms: float = 2.0,
) -> Keeping:
    measured = MeasuredCandidates(training.question.space, budget_ms, 0.95)
    latency = training.question.predictor.latency
    range_ms = latency.cheapest([28])[0], latency.dearest([28])[0]
    return Keeping(table, device, measured, range_ms, watch)


def calibrating(table: Path) -> int:
    with LatencyTable.open(table) as opened:
        count = (read_document(opened, CALIBRATION, SMALL_SPACE) or {})["networks"]
    assert isinstance(count, int)
    return count


def test_what_keeps_the_budget_at_once_ends_it(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    before = calibrating(table)
    first = training.go_on(1.98)
    found = keeping(table, device_where(1.0), training).run(first, training.go_on)
    assert training.limits_ms == [1.98]
    loop, verified = found.closed_loop, found.candidate.verified
    assert (loop.iterations, loop.measured, loop.kept, loop.accuracy_cost) == (1, 1, 1, 0.0)
    assert found.candidate.architecture == first.architecture
    assert verified is not None
    assert verified.measured_ms < verified.upper_ms <= 2.0
    assert "1 of the 1 candidates that were measured keep 2 ms" in found.notes[0]
    with LatencyTable.open(table) as opened:
        (row,) = opened.rows("network", VERIFY)
        runs = {visit.run for visit in opened.visits("network", row.key)}
    assert row.key == first.architecture.key
    assert len(runs) == 2, "what it ends with is measured twice as often"
    assert calibrating(table) == before + 1


def test_the_search_goes_on_below_what_was_over_the_budget(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    """Networks take 4 % more than is predicted, which says that they lie within 0.4 %."""
    first = training.go_on(1.99)
    found = keeping(table, device_where(1.04), training).run(first, training.go_on)
    loop, verified = found.closed_loop, found.candidate.verified
    assert loop.measured == loop.iterations == len(training.limits_ms) > 1
    assert loop.kept == 1
    assert loop.accuracy_cost is None
    assert loop.margin_percent > 3.5
    assert all(later < earlier for earlier, later in pairwise(training.limits_ms))
    assert verified is not None
    assert 0.97 * 2.0 < verified.measured_ms < verified.upper_ms <= 2.0
    assert f"1 of the {loop.measured} candidates" in found.notes[0]


def test_a_budget_that_is_hardly_used_is_used_in_the_end(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    """Networks take 6 % less than is predicted."""
    first = training.go_on(1.97)
    found = keeping(table, device_where(0.94), training).run(first, training.go_on)
    verified = found.candidate.verified
    assert len(training.limits_ms) > 1
    assert training.limits_ms[1] > 2.0
    assert found.closed_loop.kept >= 2
    assert found.closed_loop.accuracy_cost is None
    assert found.closed_loop.margin_percent < 0.0
    assert verified is not None
    assert 0.97 * 2.0 < verified.measured_ms < verified.upper_ms <= 2.0


def test_nothing_is_slower_than_the_slowest(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    _, slowest = training.question.predictor.latency.dearest([28])
    (first,) = training.question.candidates(slowest[None], np.array([np.nan]))
    loop = keeping(table, device_where(1.0), training, budget_ms=10.0)
    assert loop.run(first, training.go_on).closed_loop.iterations == 1
    assert training.limits_ms == []


def test_when_none_keeps_it_it_says_by_how_much(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    """Also where the fastest network there is, which comes at last, takes too long."""
    found = keeping(table, device_where(2.5), training).run(training.go_on(1.99), training.go_on)
    loop, verified = found.closed_loop, found.candidate.verified
    assert (loop.kept, loop.accuracy_cost) == (0, None)
    assert 2 <= loop.measured <= ITERATIONS
    assert verified is not None
    assert verified.within_budget is False
    excess = 100.0 * (verified.upper_ms / 2.0 - 1.0)
    assert f"keeps the budget: the nearest is over it by {excess:.1f} %" in found.notes[1]
    with LatencyTable.open(table) as opened:
        taken_ms = [row.measurement.latency_ms for row in opened.rows("network", VERIFY)
                    if row.measurement]  # fmt: skip
    assert verified.measured_ms == min(taken_ms)


def test_a_device_that_is_lost_loses_no_training(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    device = device_where(1.0)
    started = keeping(table, device, training)
    device.script.failures = dict.fromkeys(range(10_000), "crash")
    first = training.go_on(1.95)
    found = started.run(first, training.go_on)
    assert found.candidate == first
    assert (found.closed_loop.measured, found.closed_loop.kept) == (0, 0)
    assert found.notes[0].startswith("measuring ended early: ")


def test_without_time_nothing_is_measured(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    watch = Watch(budget_seconds=0.0)
    first = training.go_on(1.95)
    found = keeping(table, device_where(1.0), training, watch).run(first, training.go_on)
    assert found.candidate == first
    assert found.notes == ("measuring ended early: the last one was not reached",)


@pytest.mark.parametrize("disturbed", [400, 10**9])
def test_what_was_disturbed_is_measured_again_and_no_reason_to_train_on(
    table: Path, training: Training, device_where: DeviceWhere, disturbed: int
) -> None:
    device = device_where(1.0)
    device.script.flags = lambda answered: ("shared",) if answered < disturbed else ()
    first = training.go_on(1.9)
    found = keeping(table, device, training).run(first, training.go_on)
    if disturbed == 400:
        assert found.closed_loop.kept >= 1
        assert all(limit > 1.9 for limit in training.limits_ms[1:]), "for what is unused"
        with LatencyTable.open(table) as opened:
            visits = opened.visits("network", first.architecture.key)
        assert len({visit.run for visit in visits if visit.flags}) >= 1
        assert len({visit.run for visit in visits if not visit.flags}) >= 1
        return
    assert training.limits_ms == [1.9]
    assert (found.closed_loop.kept, found.closed_loop.iterations) == (0, ITERATIONS)
    assert found.candidate.architecture == first.architecture
    assert found.notes[1].startswith("the nearest may keep it, but was disturbed")


def test_what_was_measured_is_learnt_from_when_it_is_interrupted(
    table: Path, training: Training, device_where: DeviceWhere
) -> None:
    before = calibrating(table)

    def interrupted(limit_ms: float) -> Candidate:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keeping(table, device_where(1.1), training).run(training.go_on(1.99), interrupted)
    assert calibrating(table) == before + 1


# the whole search


def test_a_search_goes_on_from_its_weights_until_it_keeps_the_budget(
    table: Path, device_where: DeviceWhere, tmp_path: Path
) -> None:
    images = write_idx(tmp_path / "images", 200)
    latency = EfficiencyPredictor(table).latency
    budget_ms = (latency.cheapest([28])[0] + latency.dearest([28])[0]) / 2.0
    told: list[tuple[int, int]] = []
    found = train_single_path(
        table, images, max_latency_ms=budget_ms, epochs=4, fine_tune_epochs=1, learning_rate=0.1,
        device=device_where(1.04), on_step=lambda *at: told.append(at),
    )  # fmt: skip
    result, best = found.result, found.result.best
    assert result.closed_loop is not None
    assert result.closed_loop.kept == 1
    assert result.closed_loop.iterations > 1
    assert best.verified is not None
    assert 0.97 * budget_ms < best.verified.measured_ms < best.verified.upper_ms <= budget_ms
    of_epoch = 180 // 64
    gone_on = result.closed_loop.iterations - 1
    assert result.evaluations == len(found.steps) == of_epoch * (4 + gone_on)
    assert told[-1] == (len(found.steps) + of_epoch, len(found.steps) + of_epoch)
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    before, after = found.steps[4 * of_epoch - 1 : 4 * of_epoch + 1]
    assert after.cross_entropy < found.steps[0].cross_entropy, "weights are those it had"
    assert after.multiplier == pytest.approx(before.multiplier, abs=0.1), "and so is the price"
    found.write_weights(tmp_path / "network.pth")
    assert load_network(tmp_path / "network.pth")[0] == best.architecture
    result.write(tmp_path / "result.json")
    assert lutra.SearchResult.read(tmp_path / "result.json") == result


def test_what_cannot_be_measured_is_said_before_anything_is_trained(
    table: Path, device_where: DeviceWhere, tmp_path: Path
) -> None:
    images = write_idx(tmp_path / "images", 20)
    device = device_where(1.0)
    with pytest.raises(UsageError, match="name the budget that is to be kept"):
        train_single_path(table, images, trade_off=1.0, device=device)
    with pytest.raises(UsageError, match=r"a confidence of 0\.1 is not from"):
        train_single_path(table, images, max_latency_ms=2.0, device=device, confidence=0.1)
    with pytest.raises(TargetMismatchError):
        train_single_path(table, images, max_latency_ms=2.0, device="cpu")
