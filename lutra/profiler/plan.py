"""The order of visits: seeded shuffled rounds with references in between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def plan_round(
    workloads: Sequence[T], references: Sequence[T], *, seed: int, round_number: int, every: int
) -> list[T]:
    """One round: every workload once, shuffled; all references first, last and every so often.

    Shuffling afresh in each round keeps slow spells of the machine from always hitting the same
    ops. The same seed and round number give the same order.
    """
    order = list(workloads)
    random.Random(f"{seed}/{round_number}").shuffle(order)
    visits: list[T] = []
    for start in range(0, len(order), every):
        visits += [*references, *order[start : start + every]]
    return [*visits, *references] if order else []
