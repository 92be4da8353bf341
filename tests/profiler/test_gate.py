"""The gate opens and closes with the references."""

from lutra.profiler.gate import DriftGate, flag_low_clocks
from lutra.tables import Visit


def test_steady_references_keep_it_open() -> None:
    gate = DriftGate(0.03)
    for value in (1.0, 1.001, 0.999, 1.002):
        gate.observe("a", value)
        assert not gate.closed


def test_a_slow_reference_closes_it_and_a_fast_one_opens_it() -> None:
    gate = DriftGate(0.03)
    for value in (1.0, 1.0, 1.0, 1.1):
        gate.observe("a", value)
    assert gate.closed
    assert 0.09 < gate.drift < 0.11
    gate.observe("a", 1.0)
    assert not gate.closed


def test_the_worst_reference_counts() -> None:
    gate = DriftGate(0.03)
    for value in (1.0, 1.0, 1.0):
        gate.observe("compute", value)
        gate.observe("memory", 10 * value)
    gate.observe("memory", 11.0)
    gate.observe("compute", 1.0)
    assert gate.closed


def test_nothing_seen_is_no_drift() -> None:
    assert DriftGate(0.03).drift == 0.0


def test_low_clock_closes_it_although_the_references_are_as_fast() -> None:
    gate = DriftGate(0.03)
    gate.observe("a", 1.0, 1980.0)
    assert not gate.closed
    gate.observe("a", 1.0, 1830.0)
    assert gate.closed
    assert gate.flags(gate.drift) == ("clock",)
    gate.observe("a", 1.0, 1965.0)  # a step of the clock is none
    assert not gate.closed


def test_run_that_begins_at_a_low_clock_shows() -> None:
    gate = DriftGate(0.03, {"a": [1.0] * 20}, {"a": 1980.0})
    gate.observe("a", 1.0, 1500.0)
    assert gate.closed


def at_clock(clock_mhz: float | None) -> Visit:
    return Visit(1, 1, 1.0, 1.0, 1.0, 10, 5, 0.04, 0.0, clock_mhz=clock_mhz)


def test_visits_at_a_lower_clock_than_their_workload_can_hold_are_flagged() -> None:
    visits = [at_clock(mhz) for mhz in (1500.0, 1980.0, 1965.0, None)]
    assert [visit.flags for visit in flag_low_clocks(visits)] == [("clock",), (), (), ()]


def test_clock_that_is_always_low_is_this_workload_s_own() -> None:
    visits = [at_clock(1500.0), at_clock(1500.0)]
    assert list(flag_low_clocks(visits)) == visits


def test_devices_without_a_clock_are_left_alone() -> None:
    visits = [at_clock(None)]
    assert flag_low_clocks(visits) is visits
