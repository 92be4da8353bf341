"""Phases: the published ones, those derived for other spaces, and in fewer epochs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.errors import UsageError
from lutra.spaces import Architecture, SearchSpace, get_space
from lutra.supernets.training.schedule import ALL, Phase, schedule_of

MBV3, PROXYLESS, RESNET = "ofa-mbv3-w1.0", "ofa-proxyless-w1.3", "ofa-resnet50d"


def drawn(phase: Phase, space: SearchSpace, count: int = 200) -> list[Architecture]:
    resolution = space.resolutions[0]
    return phase.sample(space, np.random.default_rng(0), resolution, count)


def values_of(phase: Phase, space: SearchSpace, name: str) -> set[float]:
    """What genes of one list take in a phase, those of blocks beyond the depth aside.

    Of the stem's widths, which lead, two are the same channels and so the same choice.
    """
    largest = space.decode(space.choice_counts - 1)
    found: set[float] = set()
    for architecture in drawn(phase, space):
        if architecture["d"] == largest["d"] or name in ("d", "w"):  # all blocks are there
            found |= set(architecture[name][2 if name == "w" else 0 :])
    return found


def test_the_published_schedule() -> None:
    phases = schedule_of("progressive", get_space(MBV3))
    table = [
        (each.name, each.epochs, each.learning_rate, each.warm_up_epochs, each.networks)
        for each in phases
    ]
    assert table == [
        ("largest", 180, pytest.approx(2.6 / 32), 5, 1),
        ("kernel", 120, 3e-2, 5, 1),
        ("depth 1", 25, 2.5e-3, 0, 2),
        ("depth 2", 120, 7.5e-3, 5, 2),
        ("expand 1", 25, 2.5e-3, 0, 4),
        ("expand 2", 120, 7.5e-3, 5, 4),
    ]
    assert [each.distils for each in phases] == [False] + [True] * 5
    assert {each.name: each.kept for each in phases if each.sorts} == {
        "expand 1": (),
        "expand 2": (4,),
    }


@pytest.mark.parametrize(
    ("name", "phase", "values"),
    [
        (MBV3, "largest", {"ks": {7}, "e": {6}, "d": {4}}),
        (MBV3, "kernel", {"ks": {3, 5, 7}, "e": {6}, "d": {4}}),
        (MBV3, "depth 1", {"d": {3, 4}}),
        (MBV3, "depth 2", {"d": {2, 3, 4}}),
        (MBV3, "expand 1", {"d": {2, 3, 4}}),
        (PROXYLESS, "depth 1", {"d": {1, 3, 4}}),  # the last stage has one block
        (RESNET, "largest", {"e": {0.35}, "d": {2}, "w": {2}}),
        (RESNET, "depth 1", {"d": {0, 1, 2}, "w": {2}}),  # the stem has 0 and 2
        (RESNET, "expand 2", {"w": {2}, "d": {0, 1, 2}}),
        (RESNET, "width 1", {"w": {1, 2}}),
        (RESNET, "width 2", {"w": {0, 1, 2}}),
    ],
)
def test_what_phases_draw_from(name: str, phase: str, values: dict[str, set[float]]) -> None:
    space = get_space(name)
    (found,) = [each for each in schedule_of("progressive", space) if each.name == phase]
    for list_name, expected in values.items():
        assert values_of(found, space, list_name) == expected, list_name


def test_expansions_are_freed_in_two_phases() -> None:
    space = get_space(MBV3)
    first, second = schedule_of("progressive", space)[-2:]
    for phase, expected in ((first, {4.0, 6.0}), (second, {3.0, 4.0, 6.0})):
        first_blocks = {each["e"][0] for each in drawn(phase, space)}  # a stage has two at least
        assert first_blocks == expected


def test_all_choices_are_as_likely() -> None:
    space = get_space(MBV3)
    (phase,) = schedule_of("sandwich", space)
    assert phase.free == dict.fromkeys(("ks", "e", "d", "r"), ALL)
    depths = [each["d"][0] for each in drawn(phase, space, 3000)]
    assert [depths.count(value) / 3000 for value in (2, 3, 4)] == pytest.approx(
        [1 / 3] * 3, abs=0.04
    )


@given(st.integers(6, 2000))
def test_fewer_epochs_keep_their_shares(epochs: int) -> None:
    published = schedule_of("progressive", get_space(MBV3))
    scaled = schedule_of("progressive", get_space(MBV3), epochs)
    assert sum(each.epochs for each in scaled) == epochs
    for before, after in zip(published, scaled, strict=True):
        assert after.epochs >= 1
        assert abs(after.epochs - max(1, before.epochs * epochs / 590)) <= 2
        assert after.warm_up_epochs / after.epochs == pytest.approx(
            before.warm_up_epochs / before.epochs
        )


def test_too_few_epochs_and_unknown_methods() -> None:
    space = get_space(MBV3)
    with pytest.raises(UsageError, match=r"5 epochs are too few: there are 6 phases \(largest, "):
        schedule_of("progressive", space, 5)
    with pytest.raises(UsageError, match="0 epochs are too few"):
        schedule_of("sandwich", space, 0)
    with pytest.raises(UsageError, match="unknown method 'magic'; known: progressive, sandwich"):
        schedule_of("magic", space)


def test_a_learning_rate_scales_all_phases() -> None:
    published = schedule_of("progressive", get_space(MBV3))
    scaled = schedule_of("progressive", get_space(MBV3), learning_rate=0.01)
    factors = {
        round(after.learning_rate / before.learning_rate, 9)
        for before, after in zip(published, scaled, strict=True)
    }
    assert scaled[0].learning_rate == pytest.approx(0.01)
    assert len(factors) == 1


def test_rates_rise_and_fall() -> None:
    phase = Phase("p", {}, epochs=100, learning_rate=0.1, warm_up_epochs=10, networks=1)
    shares = (0.0, 0.05, 0.1, 0.55, 1.0)
    assert [phase.rate(share, 64) for share in shares] == pytest.approx([0, 0.05, 0.1, 0.05, 0])
    assert phase.rate(0.1, 128) == pytest.approx(0.2)
