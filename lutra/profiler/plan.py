"""The order of visits: seeded shuffled rounds with references in between."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from lutra.tables.measurement import Category

T = TypeVar("T")

ANCHORS: Mapping[Category, int] = {"op": 16, "network": 16, "reference": 0}
"""How many of the workloads that runs before measured are visited along, at most."""

FEW_ANCHORS = 8
"""At least so many, where there are as many, however few workloads are wanted."""


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


def evenly(items: Sequence[T], count: int) -> list[T]:
    """``count`` of the items at most, the first, the last and evenly between."""
    if len(items) <= count:
        return list(items)
    return [items[round(step * (len(items) - 1) / (count - 1))] for step in range(count)]


def nearest(known_ms: Mapping[T, float], to_ms: Sequence[float], count: int) -> list[T]:
    """``count`` of the keys at most, those nearest in latency by ratio, to each target in turn."""
    orders = [
        sorted(known_ms, key=lambda key: abs(math.log(known_ms[key] / target_ms)))
        for target_ms in dict.fromkeys(to_ms)
    ]
    in_turns = dict.fromkeys(key for keys in zip(*orders, strict=True) for key in keys)
    return list(in_turns)[:count]
