"""Rounds are complete, shuffled, repeatable, and framed by references."""

from hypothesis import given
from hypothesis import strategies as st

from lutra.profiler.plan import plan_round


@given(st.sets(st.integers(0, 500), max_size=60), st.integers(0, 9), st.integers(1, 20))
def test_round_visits_every_workload_once(workloads: set[int], number: int, every: int) -> None:
    order = plan_round(sorted(workloads), [-1, -2], seed=3, round_number=number, every=every)
    assert sorted(item for item in order if item >= 0) == sorted(workloads)


@given(st.integers(1, 60), st.integers(1, 20))
def test_references_come_first_last_and_every_so_often(count: int, every: int) -> None:
    order = plan_round(list(range(count)), [-1, -2], seed=0, round_number=1, every=every)
    assert order[:2] == [-1, -2]
    assert order[-2:] == [-1, -2]
    gap = 0
    for item in order:
        gap = 0 if item < 0 else gap + 1
        assert gap <= every


def test_order_differs_by_round_and_seed_and_repeats() -> None:
    def order(seed: int, number: int) -> list[int]:
        return plan_round(list(range(50)), [], seed=seed, round_number=number, every=8)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_nothing_to_do_is_no_visit() -> None:
    assert plan_round([], [-1], seed=0, round_number=1, every=8) == []
