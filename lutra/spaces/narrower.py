"""Networks with fewer channels, as a search space: what `widths` and `graph_widths` share.

Channels that are kept or go together, because maps of them are added or scaled by one another, are
a group. A group is a gene, and its choices are numbers of channels. A block that has a shortcut is
left out where no channels inside it are kept.
"""

# docs/decisions.md: Pruning is a search

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from lutra.errors import UsageError
from lutra.ops import OpConfig
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Gene, Indices, Rows, SearchSpace
from lutra.spaces.lattice import NO_OP, Lattice, LatticeBuilder

_MOST_CHOICES = 8
_LEAST_SHARE = 0.25  # of a layer's channels
_MOST_STATES = 20_000  # of groups that a lattice must remember at once
_IMPOSSIBLE = -2  # beside the indices of ops and `NO_OP`

Place = int | None
"""Of a group among the space's; None where the number of channels is fixed."""

_Choices = tuple[int, ...]


class Slot(NamedTuple):
    """An op at full width, and the groups that its numbers of channels belong to.

    ``block`` is the spare group that it is left out with.
    """

    op: OpConfig
    places: tuple[Place, ...]
    block: Place = None

    @property
    def own(self) -> tuple[int, ...]:
        """The groups, each once."""
        every = (*self.places, self.block)
        return tuple(dict.fromkeys(place for place in every if place is not None))


@dataclass(frozen=True)
class Group:
    """Channels of one group: how many at full width; ``inner`` are those within an op.

    Where a group is ``spare``, the ops of its block are left out when none of it are kept.
    ``block`` is that group of the block that another one is in.
    """

    channels: int
    inner: bool = False
    spare: bool = False
    block: Place = None

    @cached_property
    def choices(self) -> tuple[int, ...]:
        """At most eight steps of a power of two, from a quarter to all; 0 before where spare."""
        step = 2
        while self.channels > step * _MOST_CHOICES:
            step *= 2
        least = max(step, _LEAST_SHARE * self.channels)
        none = (0,) if self.spare else ()
        return (*none, *(c for c in range(step, self.channels, step) if c >= least), self.channels)


class NarrowerForms(SearchSpace):
    """Rows: [channels between ops | channels within ops | resolution], as ``out``, ``mid``, ``r``.

    The network at full width has the last choice of every gene. So have, in canonical rows, the
    other groups of a block that is left out: what that costs is the spare group's loss alone.
    """

    def __init__(
        self, name: str, resolution: int, groups: Sequence[Group], slots: Sequence[Slot]
    ) -> None:
        self.name = name
        self.resolutions = (resolution,)
        self._groups = groups
        self._slots = slots
        self._order = sorted(range(len(groups)), key=lambda place: groups[place].inner)
        self._columns = {place: column for column, place in enumerate(self._order)}

    @abstractmethod
    def narrowed(self, slot: Slot, channels: Sequence[int]) -> OpConfig | None:
        """The slot's op with other numbers of channels, by place; None where that is no such op.

        A number is 0 where it is fixed.
        """

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        ordered = [self._groups[place] for place in self._order]
        widths = [Gene("mid" if group.inner else "out", group.choices) for group in ordered]
        return (*widths, Gene("r", self.resolutions))

    @cached_property
    def full(self) -> Architecture:
        """The network at full width."""
        return self.decode(self.choice_counts - 1)

    @cached_property
    def ops(self) -> tuple[OpConfig, ...]:
        return self._catalogue[0]

    @cached_property
    def _catalogue(self) -> tuple[tuple[OpConfig, ...], list[Indices]]:
        """The ops; for each slot their indices by its own groups' choices."""
        index_of: dict[OpConfig, int] = {}
        tables = []
        for slot in self._slots:
            shape = [len(self._groups[place].choices) for place in slot.own]
            table = np.full(shape, _IMPOSSIBLE, dtype=np.int32)
            for choices in product(*map(range, shape)):
                chosen = dict(zip(slot.own, choices, strict=True))
                if not all(self._channels(place, chosen) for place in slot.own):
                    if self._is_canonical(chosen):
                        table[choices] = NO_OP
                    continue
                op = self.narrowed(slot, [self._channels(place, chosen) for place in slot.places])
                if op is not None:
                    table[choices] = index_of.setdefault(op, len(index_of))
            tables.append(table)
        return tuple(index_of), tables

    def _is_canonical(self, chosen: Mapping[int, int]) -> bool:
        """Whether the groups inside a block that is left out have their last choices."""
        for place, choice in chosen.items():
            group = self._groups[place]
            left_out = group.block is not None and chosen[group.block] == 0
            if left_out and choice < len(group.choices) - 1:
                return False
        return True

    def _channels(self, place: Place, chosen: Mapping[int, int]) -> int:
        return 0 if place is None else self._groups[place].choices[chosen[place]]

    def channels_of(self, architecture: Architecture) -> list[int]:
        """(groups,): how many channels each group has in a network."""
        row = self.encode(architecture)
        return [
            group.choices[row[self._columns[place]]] for place, group in enumerate(self._groups)
        ]

    @cached_property
    def spare_columns(self) -> list[int]:
        """The genes by whose first choice a block is left out."""
        return [self._columns[place] for place, group in enumerate(self._groups) if group.spare]

    def left_out(self, architecture: Architecture) -> int:
        """How many blocks a network lacks."""
        return self.channels_of(architecture).count(0)

    def full_names(self, architecture: Architecture) -> dict[str, str]:
        """For each node of a network by its name: what it is called at full width."""
        return {node.name: node.name for node in self.graph(architecture).nodes}

    def op_indices(self, rows: Rows) -> Indices:
        rows = self.canonical(rows)
        result = np.empty((len(rows), len(self._slots)), dtype=np.int32)
        for number, (slot, table) in enumerate(zip(self._slots, self._catalogue[1], strict=True)):
            result[:, number] = table[tuple(rows[:, self._columns[place]] for place in slot.own)]
        return result

    def canonical(self, rows: Rows) -> Rows:
        result = rows.copy()
        for place, group in enumerate(self._groups):
            if group.block is not None:
                left_out = rows[:, self._columns[group.block]] == 0
                result[left_out, self._columns[place]] = len(group.choices) - 1
        return result

    def build_lattice(self, resolution: int) -> Lattice:
        columns = len(self.genes)
        builder = LatticeBuilder(columns, ((columns - 1, 0),))
        last_use = {place: n for n, slot in enumerate(self._slots) for place in slot.own}
        last_read = {place: n for n, slot in enumerate(self._slots) for place in slot.places}
        live: tuple[int, ...] = ()  # groups that are decided and that ops to come ask for
        nodes: dict[_Choices, int] = {(): 0}  # by the choices of those
        for number, (slot, table) in enumerate(zip(self._slots, self._catalogue[1], strict=True)):
            new = tuple(place for place in slot.own if place not in live)
            kept = tuple(place for place in (*live, *new) if last_use[place] > number)
            following: dict[_Choices, int] = {}
            for state, node in nodes.items():
                for choices in product(*(range(len(self._groups[p].choices)) for p in new)):
                    chosen = dict(zip((*live, *new), (*state, *choices), strict=True))
                    op = int(table[tuple(chosen[place] for place in slot.own)])
                    if op == _IMPOSSIBLE:
                        continue
                    # of a block whose ops are yet to come: whether it is there
                    target = tuple(
                        chosen[place] if last_read[place] > number else min(chosen[place], 1)
                        for place in kept
                    )
                    if target not in following:
                        following[target] = builder.node()
                    fixed = tuple((self._columns[place], chosen[place]) for place in new)
                    builder.edge(node, following[target], op, fixed)
            self._require_few(following)
            live, nodes = kept, following
        (end,) = nodes.values()
        return builder.build(end)

    def _require_few(self, nodes: Mapping[_Choices, int]) -> None:
        if len(nodes) > _MOST_STATES:
            raise UsageError(
                f"{self.name}: so many channels depend on one another that the best numbers of"
                " them cannot be found exactly; narrower forms are for networks of plain layers"
                " and shortcuts"
            )
