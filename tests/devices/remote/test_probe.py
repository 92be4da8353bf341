"""What a system says of itself, whatever it says."""

from __future__ import annotations

import math
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.devices.remote.probe import SCRIPT, STATE_SCRIPT, SystemFacts, fastest_cores, parse_facts

PHONE = """
uid=2000
online=0-7
maximum=0 1803000
maximum=4 2348000
maximum=5 2348000
maximum=6 2348000
maximum=7 2850000
capacity=7 1024
capacity=6 800
governor=0 schedutil
governor=7 schedutil
"""
names = st.sampled_from(
    ["uid", "online", "present", "load", "memory_kb", "cpuinfo", "processor", "maximum", "capacity",
     "governor", "clock", "tunable", "zone", "sensor", "cooling", "throttled", "thermal_status",
     "firmware_throttled", "tool", "battery", "board"]
)  # fmt: skip
values = st.text(max_size=40) | st.integers().map(str) | st.floats().map(str)


def use(facts: SystemFacts) -> None:
    """Ask everything."""
    health = facts.health()
    for number in (health.load_1m, health.clock_mhz, health.temperature_c, health.battery_percent):
        assert number is None or math.isfinite(number)
    assert facts.cores
    assert facts.memory_bytes >= 0
    assert facts.throttled in (True, False, None)
    assert isinstance(facts.processor, str)
    assert facts.charging in (True, False, None)
    cores = fastest_cores(facts, 2)
    assert set(cores) <= set(facts.cores)
    assert set(facts.cores_off) <= set(facts.cores)


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    use(parse_facts(text))


@given(st.lists(st.tuples(names, values), max_size=30))
def test_any_values_are_survived(pairs: list[tuple[str, str]]) -> None:
    use(parse_facts("\n".join(f"{name}={value}" for name, value in pairs)))


@pytest.mark.parametrize("script", [SCRIPT, STATE_SCRIPT])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_runs_here(script: str, shell: str) -> None:
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stderr
    use(parse_facts(done.stdout))


def test_the_fastest_cores_of_a_phone() -> None:
    facts = parse_facts(PHONE)
    assert fastest_cores(facts, 1) == (7,)
    assert fastest_cores(facts, 2) == (6, 7)
    assert fastest_cores(facts, 4) == (4, 5, 6, 7)
    assert fastest_cores(facts, 99) == tuple(range(8))


def test_equal_cores_are_taken_from_the_last() -> None:
    assert fastest_cores(parse_facts("online=0-3"), 2) == (2, 3)


@pytest.mark.parametrize(
    ("said", "throttled"),
    [
        ("", None),
        ("throttled=0x0", False),
        ("throttled=0x50000", False),  # it happened since boot, not now
        ("throttled=0x50005", True),
        ("firmware_throttled=4", True),
        ("thermal_status=0", False),
        ("thermal_status=1", True),
        ("cooling=0 thermal-cpufreq-0", False),
        ("cooling=2 thermal-cpufreq-0", True),
        ("cooling=2 fan", None),
        ("throttled=0x0\ncooling=1 cpufreq", True),
    ],
)
def test_throttling(said: str, throttled: bool | None) -> None:
    assert parse_facts(said).throttled is throttled


def test_cores_that_are_switched_off_are_cores() -> None:
    facts = parse_facts("present=0-7\nonline=0-3,7")
    assert facts.cores == tuple(range(8))
    assert facts.cores_off == (4, 5, 6)
    assert parse_facts("online=0-3").cores_off == ()


def test_temperatures_in_degrees_or_thousandths() -> None:
    assert parse_facts("zone=48300\nzone=36").temperature_c == pytest.approx(48.3)
    assert parse_facts("zone=-40000\nzone=999999999").temperature_c is None
