"""Runs of different states of the machine are brought to that of the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.base import RuntimeConfig
from lutra.devices.fake import FakeDevice, FakeScript, latency_from_size
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from lutra.profiler.bench import open_bench, open_or_create
from lutra.profiler.protocols import OP_PROTOCOL
from lutra.profiler.statistics import summarise
from lutra.profiler.watch import UNWATCHED, Progress, Watch
from lutra.profiler.workload import Workload, network_workload, op_workload
from lutra.spaces import get_space, sample_networks
from lutra.tables import LatencyTable, Measurement, Target, Visit
from lutra.tables.measurement import CALIBRATE, VALIDATE, VERIFY
from lutra.tables.states import SAME, State, States, fit_state
from tests.machines import machine

VISIT = Visit(1, 1, 4.0, 4.4, 3.8, 10, 1, 0.04, 0.0, run=2)
sizes = st.lists(st.floats(0.5, 50.0), min_size=8, max_size=30)


@given(sizes, st.floats(0.7, 1.4), st.integers(0, 2**32 - 1))
def test_a_scale_is_found_in_noise(then: list[float], scale: float, seed: int) -> None:
    noise = 1.0 + 0.01 * np.random.default_rng(seed).standard_normal(len(then))
    state = fit_state(then, scale * np.array(then) * noise, constant=False)
    assert state.known
    assert state.scale == pytest.approx(scale, rel=0.03)
    for latency in then:
        assert scale * latency * state.factor(scale * latency) == pytest.approx(latency, rel=0.03)


def test_a_constant_beside_the_scale_is_found() -> None:
    then = np.linspace(1.5, 8.0, 9)
    state = fit_state(then, 1.05 * then + 0.3, constant=True)
    for latency in then:
        now = 1.05 * latency + 0.3
        assert now * state.factor(now) == pytest.approx(latency, rel=0.01)


def test_anchors_of_one_size_make_no_constant() -> None:
    state = fit_state([2.0] * 8, [2.2] * 8, constant=True)
    assert state.constant_ms == pytest.approx(0.0, abs=0.04)
    assert state.factor(2.2) == pytest.approx(1 / 1.1, rel=0.01)


def test_a_small_anchor_far_from_the_others_does_not_turn_the_line() -> None:
    """What a cache costs falls with size among those alike; the small one takes less from it."""
    then = np.linspace(2.2, 4.8, 8)
    slower = np.append(1.02 + 0.5 / then, 1.10)
    state = fit_state(np.append(then, 0.7), slower * np.append(then, 0.7), constant=True)
    for latency, factor in zip(then, slower, strict=False):
        assert state.factor(latency * factor) == pytest.approx(1.0 / factor, rel=0.01)
    assert state.lowest_ms > 1.5, "nor is what is as small as that one told by it"


@given(st.floats(0.01, 100.0), st.floats(-0.3, 0.4))
def test_anchors_of_another_size_tell_little(size: float, slower: float) -> None:
    """What slows a network by a fifth, a file of a tenth of its size may not feel."""
    state = fit_state([1.0], [1.0 + slower], constant=True)
    now_ms = size * (1.0 + slower)
    told = 1.0 / state.factor(now_ms) - 1.0
    assert abs(told) <= abs(slower) * min(size, 1.0 / size) + 1e-9
    assert state.reaches(now_ms) or abs(slower) * (1.0 - min(size, 1.0 / size)) > 0.05
    assert not state.reaches(now_ms) or abs(slower - told) <= 0.055


def test_a_scale_holds_for_all_sizes() -> None:
    state = fit_state([1.0, 2.0, 3.0], [1.1, 2.2, 3.3], constant=False)
    assert state.factor(100.0) == pytest.approx(1 / 1.1, rel=0.01)
    assert state.reaches(100.0)


def test_one_anchor_that_was_disturbed_counts_for_little() -> None:
    then = np.linspace(1.0, 8.0, 8)
    now = 1.1 * then
    now[3] *= 1.5
    assert fit_state(then, now, constant=False).scale == pytest.approx(1.1, rel=0.01)


@given(st.floats(0.01, 100.0))
def test_no_latency_becomes_negative(latency_ms: float) -> None:
    state = fit_state([1.0, 2.0, 4.0, 8.0], [1.9, 2.9, 4.9, 8.9], constant=True)
    assert latency_ms * state.factor(latency_ms) > 0


def test_without_anchors_a_run_is_flagged_and_not_shifted() -> None:
    brought = fit_state([], [], constant=True).brought(VISIT)
    assert brought == replace(VISIT, flags=("drift",))


def test_anchors_that_disagree_flag_the_run() -> None:
    state = fit_state([1.0, 2.0, 3.0, 4.0], [1.0, 2.6, 3.0, 5.4], constant=False)
    assert "drift" in state.brought(VISIT).flags


def test_a_visit_is_brought_as_a_whole() -> None:
    brought = State(scale=1.25, anchors=8).brought(VISIT)
    assert (brought.low_ms, brought.median_ms) == pytest.approx((3.2, 3.52))
    assert brought.drift == pytest.approx(0.25)
    assert brought.flags == ()
    assert SAME.brought(VISIT) == VISIT


# through a run, into a real table

OPS = [Conv(Shape(8, 8, 8), 8 * number) for number in range(1, 9)]
SPACE = get_space("ofa-mbv3-w1.0")


def networks(role: str, count: int) -> list[Workload]:
    seed = {CALIBRATE: 1, VALIDATE: 2}[role]
    drawn = sample_networks(SPACE, [128, 224], count, seed)
    return [network_workload(SPACE, item, role, Emission()) for item in drawn]


def ops(count: int) -> list[Workload]:
    return [op_workload(op, Emission()) for op in OPS[:count]]


Run = Callable[..., dict[str, Measurement]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Measure into the test's one table; all its rows."""

    def measure(
        script: FakeScript, chosen: list[Workload], known: list[Workload], watch: Watch = UNWATCHED
    ) -> dict[str, Measurement]:
        path = tmp_path / "days.lut"
        with open_bench(FakeDevice(script), RuntimeConfig("onnxruntime")) as bench:
            with open_or_create(path, bench.target) as table:
                bench.measure(table, chosen, OP_PROTOCOL, anchors=known, watch=watch)
        return rows(path)

    return measure


def rows(path: Path) -> dict[str, Measurement]:
    with LatencyTable.open(path) as table:
        return {row.key: row.measurement for row in table.rows() if row.measurement}


def steady_ms(workload: Workload, folder: Path) -> float:
    assert callable(workload.model)
    (folder / "model").write_bytes(workload.model())
    return latency_from_size(folder / "model")


@pytest.mark.parametrize("busy_first", [False, True])
def test_days_add_up(run: Run, tmp_path: Path, busy_first: bool) -> None:
    """An evenly busy day, before a quiet one or after it, shows in no row of the other."""
    days = [machine(1.4, 0.3), machine()]
    first, second = days if busy_first else days[::-1]
    run(first, [*ops(5), *networks(CALIBRATE, 6)], [])
    fresh = [*ops(8)[5:], *networks(VALIDATE, 3)]
    found = run(second, fresh, [*ops(5), *networks(CALIBRATE, 6)])
    scale, constant = (1.4, 0.3) if busy_first else (1.0, 0.0)
    for workload in [*ops(8), *networks(CALIBRATE, 6), *networks(VALIDATE, 3)]:
        own = steady_ms(workload, tmp_path)
        expected = scale * own + (constant if own > 1.0 else 0.0)
        assert found[workload.key].latency_ms == pytest.approx(expected, rel=0.02)
        assert found[workload.key].flags == ()


def test_what_no_anchor_brings_to_the_table_is_flagged(run: Run, tmp_path: Path) -> None:
    """Twice as slow is another machine."""
    run(machine(), ops(5), [])
    found = run(machine(2.2), ops(8), [])
    assert all(found[workload.key].flags == ("drift",) for workload in ops(8)[5:])
    assert all(found[workload.key].flags == () for workload in ops(5))


def test_interrupting_an_extension_leaves_one_state(run: Run, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 60:
            raise KeyboardInterrupt

    run(machine(1.3), ops(5), [])
    with pytest.raises(KeyboardInterrupt):
        run(machine(), ops(8), [], Watch(on_progress=stop))
    for key, found in rows(tmp_path / "days.lut").items():
        if key in {workload.key for workload in ops(8)}:
            (workload,) = (item for item in ops(8) if item.key == key)
            own = steady_ms(workload, tmp_path)
            assert found.latency_ms == pytest.approx(1.3 * own, rel=0.02)


def test_a_table_of_one_run_has_no_states(run: Run, tmp_path: Path) -> None:
    run(machine(), ops(3), [])
    with LatencyTable.open(tmp_path / "days.lut") as table:
        states = States(table)
        visits = table.visits("op", ops(1)[0].key)
    assert states.of("op", 1) == SAME
    assert states.brought("op", visits) == visits


def test_what_a_search_chose_tells_no_state(tmp_path: Path) -> None:
    """It was chosen for being fast, which it was by luck: not all else has become slower since."""
    rng = np.random.default_rng(0)
    with LatencyTable.create(tmp_path / "t.lut", Target.of_import()) as table:
        for number in range(60):
            own_ms = float(rng.uniform(2.0, 8.0))
            role, luck = (VERIFY, 0.97) if number >= 9 else (CALIBRATE, 1.0)
            for run, slower in ((1, luck), (2, 1.0)):
                for round_number in range(6):
                    low_ms = own_ms * slower * rng.normal(1.0, 0.003)
                    visit = replace(VISIT, low_ms=low_ms, round=round_number, run=run)
                    key = f"network {number}"
                    table.record_visit("network", key, visit, summarise([visit]), role)
        state = States(table).of("network", 2)
    assert state.factor(5.0) == pytest.approx(1.0, abs=0.004)
