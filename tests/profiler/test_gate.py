"""The gate opens and closes with the references."""

from lutra.profiler.gate import DriftGate


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
