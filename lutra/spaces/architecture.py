"""One architecture of a search space: an immutable record of choices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Lists = tuple[tuple[str, tuple[float, ...]], ...]

_OFA_ORDER = ("ks", "e", "d", "w")  # as OFA writes them; a list of another name comes behind


@dataclass(frozen=True, init=False)
class Architecture:
    """Choices in OFA's own terms: ``Architecture("ofa-mbv3-w1.0", 224, {"ks": [...], ...})``.

    ``space`` is the name of its space and ``r`` the input resolution in pixels. ``lists`` are those
    of the space's genes: ``ks`` kernel sizes and ``e`` expansion ratios per block, ``d`` depth per
    stage, ``w`` width indices. Two are equal when they make the same choices.
    """

    space: str
    r: int
    lists: Lists

    def __init__(self, space: str, r: int, lists: Mapping[str, Iterable[float]] | Lists) -> None:
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "r", r)
        object.__setattr__(self, "lists", _ordered(dict(lists)))

    def __getitem__(self, name: str) -> tuple[float, ...]:
        """One of its lists, such as ``architecture["d"]``; empty where the space has none."""
        return dict(self.lists).get(name, ())

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `SearchSpace.parse` reads; empty lists are left out."""
        lists = {name: list(values) for name, values in self.lists}
        return {"space": self.space, **lists, "r": self.r}

    def to_ofa(self) -> dict[str, list[float]]:
        """OFA's config dictionary, as ``set_active_subnet(**config)`` of its networks takes it.

        It does not name the space: OFA leaves that to whoever keeps it.
        """
        return {**{name: list(values) for name, values in self.lists}, "r": [self.r]}

    def genes(self) -> dict[str, float]:
        """Its choices by list and place, as columns of a table: ``r``, ``ks_0``, ... ``d_4``.

        ``ks_0`` is the first block's kernel. What its depth makes inert is the first choice.
        """
        columns = {
            f"{name}_{place}": value
            for name, values in self.lists
            for place, value in enumerate(values)
        }
        return {"r": self.r, **columns}

    @property
    def key(self) -> str:
        """The key of its network's row in a table: its choices as compact JSON."""
        return json.dumps(self.to_json(), separators=(",", ":"))


def _ordered(lists: Mapping[str, Iterable[float]]) -> Lists:
    """The lists that hold something, in one order whatever order they were given in."""
    names = [name for name in _OFA_ORDER if name in lists] + sorted(set(lists) - set(_OFA_ORDER))
    kept = ((name, tuple(lists[name])) for name in names)
    return tuple((name, values) for name, values in kept if values)
