"""Drift: latencies follow references by a power, and correction takes it out again."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.base import RuntimeConfig
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from lutra.profiler.bench import open_bench
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.statistics import summarise
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.watch import Watch
from lutra.profiler.workload import Workload, op_workload
from lutra.tables import LatencyTable, Target, Visit
from lutra.tables.drift import Drift, fit_drift, table_drifts
from lutra.tables.measurement import CALIBRATE, Category

STEADY = (0.25, 0.4)
VISIT = Visit(1, 1, 2.0, 2.2, 1.9, 20, 10, 0.04, 0.0, (), STEADY)
DRIFT = Drift(STEADY, (0.7, 0.3))


def visit(latency_ms: float, states: tuple[float, ...], sensitivity: tuple[float, ...]) -> Visit:
    """A visit on a machine whose references are slower by these factors."""
    slower = math.prod(state**power for state, power in zip(states, sensitivity, strict=True))
    seen = tuple(steady * state for steady, state in zip(STEADY, states, strict=True))
    value = latency_ms * slower
    return replace(VISIT, low_ms=value, median_ms=value, minimum_ms=value, reference_ms=seen)


def test_nothing_is_corrected_in_the_steady_state() -> None:
    assert DRIFT.corrected(VISIT) == VISIT


def test_a_slower_machine_is_corrected() -> None:
    corrected = DRIFT.corrected(visit(2.0, (1.5, 1.5), (0.7, 0.3)))
    assert corrected.low_ms == pytest.approx(2.0)
    assert corrected.median_ms == pytest.approx(2.0)
    assert corrected.drift == pytest.approx(0.5)
    assert corrected.flags == ()


def test_more_than_twice_as_slow_is_flagged() -> None:
    assert DRIFT.corrected(visit(2.0, (2.1, 2.1), (0.7, 0.3))).flags == ("drift",)


def test_what_else_was_wrong_with_a_visit_survives_its_correction() -> None:
    assert DRIFT.corrected(replace(VISIT, flags=("throttled",))).flags == ("throttled",)
    slow = replace(visit(2.0, (2.1, 2.1), (0.7, 0.3)), flags=("shared",))
    assert DRIFT.corrected(slow).flags == ("shared", "drift")


def test_a_visit_without_references_is_left_alone() -> None:
    plain = replace(VISIT, reference_ms=(), flags=("drift",))
    assert DRIFT.corrected(plain) == plain


def test_without_references_there_is_no_drift() -> None:
    assert fit_drift([[replace(VISIT, reference_ms=())]]) is None
    assert fit_drift([]) is None


@given(
    st.tuples(st.floats(0.2, 1.2), st.floats(0.2, 1.2)),
    st.lists(st.floats(0.01, 50.0), min_size=15, max_size=30),
    st.integers(0, 999),
)
def test_sensitivities_are_found_on_a_noisy_machine(
    sensitivity: tuple[float, float], latencies: list[float], seed: int
) -> None:
    rng = random.Random(seed)
    workloads = [
        [
            visit(latency, (rng.uniform(1.0, 2.0), rng.uniform(1.0, 2.0)), sensitivity)
            for _ in range(8)
        ]
        for latency in latencies
    ]
    found = fit_drift(workloads)
    assert found is not None
    assert found.sensitivity == pytest.approx(sensitivity, abs=0.25)
    values = [[found.corrected(item).low_ms for item in visits] for visits in workloads]
    spreads = [np.std(np.log(seen)) for seen in values]
    assert max(spreads) < 0.1


def test_a_quiet_machine_says_nothing_and_latency_follows_the_references() -> None:
    found = fit_drift([[visit(1.0, (1.0, 1.0), (1.0, 0.0))] * 6] * 5)
    assert found is not None
    assert sum(found.sensitivity) == pytest.approx(1.0)


def test_the_prior_holds_where_visits_tell_nothing() -> None:
    assert fit_drift([], DRIFT) == DRIFT
    found = fit_drift([[VISIT] * 6] * 5, DRIFT)
    assert found is not None
    assert found.baseline_ms == DRIFT.baseline_ms
    assert found.sensitivity == pytest.approx(DRIFT.sensitivity)


def test_networks_have_sensitivities_of_their_own(tmp_path: Path) -> None:
    """Those that calibrate fix them; the ones that validate do not move them."""
    rng = random.Random(3)
    target = Target("fake", "x", "x", "1", "onnxruntime", "0", "none", "fp32", 1, "1", 1)

    def fill(table: LatencyTable, category: Category, power: float, role: str = "") -> None:
        for name in "abcdefgh":
            for _ in range(8):
                states = (rng.uniform(1.0, 2.0), rng.uniform(1.0, 2.0))
                seen = visit(3.0, states, (power, power))
                table.record_visit(category, f"{name}{role}", seen, summarise([seen]), role)

    with LatencyTable.create(tmp_path / "x.lut", target) as table:
        fill(table, "op", 0.5)
        fill(table, "network", 0.25, CALIBRATE)
        before = table_drifts(table)["network"]
        fill(table, "network", 0.9, "validate")
        ops, networks = table_drifts(table).values()
    assert ops is not None
    assert networks is not None
    assert networks == before
    assert networks.baseline_ms == ops.baseline_ms
    assert ops.sensitivity == pytest.approx((0.5, 0.5), abs=0.05)
    assert networks.sensitivity == pytest.approx((0.25, 0.25), abs=0.05)


def test_json_round_trips() -> None:
    assert Drift.from_json(DRIFT.to_json()) == DRIFT


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"baseline_ms": [1.0], "sensitivity": []},
        {"baseline_ms": [0.0], "sensitivity": [1.0]},
        {"baseline_ms": ["x"], "sensitivity": [1.0]},
        {"baseline_ms": None, "sensitivity": None},
    ],
)
def test_other_documents_are_refused(document: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Drift.from_json(document)


def test_a_run_on_a_machine_that_never_rests(tmp_path: Path) -> None:
    """Every visit is up to 1.8 times too slow; the values are right all the same."""
    rng = random.Random(1)
    states = [rng.uniform(1.0, 1.8) for _ in range(10_000)]
    script = FakeScript(drift=lambda ordinal: states[ordinal], pairs_references=True)
    convs = [Conv(Shape(8, 8, 8), 8 * number) for number in range(1, 21)]
    workloads = [op_workload(conv, Emission()) for conv in convs]
    with open_bench(FakeDevice(script), RuntimeConfig("onnxruntime")) as bench:
        with LatencyTable.create(tmp_path / "drift.lut", bench.target) as table:
            summary = bench.measure(table, workloads, TimingProtocol())
            drift = table_drifts(table)["op"]
            steady = {
                workload.key: script.latency_ms(bench.store.path(workload))
                for workload in workloads
            }
            measured = table.op_latencies()
            assert not table.rows("reference")
            longer = TimingProtocol(rule=StoppingRule(min_rounds=20, max_rounds=30))
            status = {row.key: row.status for row in table.rows("op")}
            network = Workload("network", "n", workloads[0].model)
            bench.measure(
                table, [network], replace(longer, seed=1), watch=Watch(budget_seconds=0.05)
            )
            assert {row.key: row.status for row in table.rows("op")} == status
    assert summary.visits < 20 * 8 + 1
    assert drift is not None
    assert sum(drift.sensitivity) == pytest.approx(1.0, abs=0.05)
    ratios = np.array([measured[key] / steady[key] for key in steady])
    assert np.ptp(ratios) / ratios.mean() < 0.01
    assert ratios.mean() == pytest.approx(1.08, abs=0.06)  # steady: the quietest tenth
