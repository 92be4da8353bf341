"""The narrower forms of one network: fewer channels wherever that leaves a network of its kind.

What pruning chooses from. A space's name holds the network's, so that tables, results and accuracy
models of it need nothing beside them: ``SPACE/widths/ks=3-5/e=4-6/d=2/r=224``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from lutra.errors import ResultError, UsageError
from lutra.ops import Bottleneck, Conv, Linear, MBConv, OpConfig, Pool
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Gene, Indices, Rows, SearchSpace
from lutra.spaces.lattice import Lattice, LatticeBuilder
from lutra.spaces.registry import get_space, register_derived
from lutra.text import printable_line

MARK = "widths"
_MOST_CHOICES = 8
_LEAST_SHARE = 0.25  # of a layer's channels
_MOST_TIMES = 8  # that a network was narrowed, space by space

_Place = int | None  # of a group of channels; None: the number is fixed


class _Slot(NamedTuple):
    """An op of the network and the groups that its channels belong to."""

    op: OpConfig
    inputs: _Place
    middle: _Place
    outputs: _Place


@dataclass(frozen=True)
class _Group:
    """Channels that are kept or go together, because they are added or scaled by one another.

    ``inner`` are those within an op; ``channels`` how many there are at full width.
    """

    inner: bool
    channels: int

    @property
    def choices(self) -> tuple[int, ...]:
        """At most eight steps of a power of two, from a quarter to all."""
        step = 2
        while self.channels > step * _MOST_CHOICES:
            step *= 2
        least = max(step, _LEAST_SHARE * self.channels)
        return (*(c for c in range(step, self.channels, step) if c >= least), self.channels)


class WidthSpace(SearchSpace):
    """Rows: [channels between ops | channels within ops | resolution], as ``out``, ``mid``, ``r``.

    ``base`` is the network at full width, which has the last choice of every gene. Channels of
    feature maps that are added to one another are one gene. Where a block would have as many
    channels inside as it is given, which for `MBConv` means no expansion, it has the next choice.
    Raises `UsageError` for a network that has grouped convolutions other than depthwise ones.
    """

    def __init__(self, base: Architecture) -> None:
        self.base = base
        self.name = width_space_name(base)
        self.resolutions = (base.r,)
        self._groups: list[_Group] = []
        self._slots = self._linked(get_space(base.space).ops_of(base))
        order = sorted(range(len(self._groups)), key=lambda place: self._groups[place].inner)
        self._columns = {place: column for column, place in enumerate(order)}

    def _linked(self, ops: Sequence[OpConfig]) -> list[_Slot]:
        """The ops with the groups of their channels; the image's and the classes' are fixed."""
        slots: list[_Slot] = []
        current: _Place = None
        for op in ops:
            inputs, middle = current, None
            match op:
                case Pool():
                    pass
                case Linear():
                    current = None
                case Conv(groups=1):
                    current = current if op.residual else self._group(op.out_channels)
                case MBConv():
                    expands = op.mid_channels != op.input_shape.channels
                    middle = self._group(op.mid_channels, inner=True) if expands else inputs
                    current = current if op.residual else self._group(op.out_channels)
                case Bottleneck():
                    middle = self._group(op.mid_channels, inner=True)
                    current = self._group(op.out_channels) if op.downsample else current
                case _:
                    raise UsageError(f"{self.base.space}: {op.key} has no narrower forms")
            slots.append(_Slot(op, inputs, middle, current))
        return slots

    def _group(self, channels: int, *, inner: bool = False) -> int:
        self._groups.append(_Group(inner, channels))
        return len(self._groups) - 1

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        widths = [
            Gene("mid" if group.inner else "out", group.choices)
            for group in sorted(self._groups, key=lambda group: group.inner)
        ]
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
        """The ops; for each slot their indices by [input, middle, output choice], -1 for none."""
        index_of: dict[OpConfig, int] = {}
        tables = []
        for slot in self._slots:
            table = np.full([len(self._widths(place)) for place in slot[1:]], -1, dtype=np.int32)
            for choices in product(*map(range, table.shape)):
                if self._is_one(slot, choices):
                    op = self._narrowed(slot, choices)
                    table[choices] = index_of.setdefault(op, len(index_of))
            tables.append(table)
        return tuple(index_of), tables

    def _widths(self, place: _Place) -> tuple[int, ...]:
        return (0,) if place is None else self._groups[place].choices

    def _is_one(self, slot: _Slot, choices: tuple[int, ...]) -> bool:
        """Whether an op's channels agree where they are of one group, and it stays what it is."""
        places = slot[1:]
        chosen = [
            {choices[other] for other in range(3) if places[other] == place}
            for place in set(places)
        ]
        if any(len(each) > 1 for each in chosen):
            return False
        return not (_expands(slot) and self._collides(slot, *choices[:2]))

    def _collides(self, slot: _Slot, inputs: int, middle: int) -> bool:
        given = self._widths(slot.inputs)[inputs]
        return self._widths(slot.middle)[middle] == (given or slot.op.input_shape.channels)

    def _narrowed(self, slot: _Slot, choices: tuple[int, ...]) -> OpConfig:
        """An op with the channels of these choices."""
        inputs, middle, outputs = (
            self._widths(place)[choice] for place, choice in zip(slot[1:], choices, strict=True)
        )
        op = slot.op
        shape = op.input_shape._replace(channels=inputs or op.input_shape.channels)
        match op:
            case Conv():
                return replace(op, input_shape=shape, out_channels=outputs)
            case MBConv() | Bottleneck():
                return replace(op, input_shape=shape, mid_channels=middle, out_channels=outputs)
        return replace(op, input_shape=shape)

    def op_indices(self, rows: Rows) -> Indices:
        rows = self.canonical(rows)
        result = np.empty((len(rows), len(self._slots)), dtype=np.int32)
        for number, (slot, table) in enumerate(zip(self._slots, self._catalogue[1], strict=True)):
            result[:, number] = table[tuple(self._chosen(rows, place) for place in slot[1:])]
        return result

    def _chosen(self, rows: Rows, place: _Place) -> Rows:
        """(N,): the choice of a group's gene; 0 where the channels are fixed."""
        if place is None:
            return np.zeros(len(rows), dtype=rows.dtype)
        chosen: Rows = rows[:, self._columns[place]]
        return chosen

    def canonical(self, rows: Rows) -> Rows:
        result = rows.copy()
        for slot in self._slots:
            if _expands(slot):
                assert slot.middle is not None
                given = np.array(self._widths(slot.inputs))[self._chosen(result, slot.inputs)]
                given = np.where(given == 0, slot.op.input_shape.channels, given)
                column = self._columns[slot.middle]
                middle = np.array(self._widths(slot.middle))[result[:, column]]
                result[:, column] += middle == given
        return result

    def build_lattice(self, resolution: int) -> Lattice:
        columns = len(self.genes)
        builder = LatticeBuilder(columns, ((columns - 1, 0),))
        nodes = {0: 0}  # of each choice of the channels that the next op is given
        for slot, table in zip(self._slots, self._catalogue[1], strict=True):
            following = {choice: builder.node() for choice in range(table.shape[2])}
            for inputs, middle, outputs in product(*map(range, table.shape)):
                op = int(table[inputs, middle, outputs])
                if op >= 0:
                    fixed = self._fixed(slot, middle, outputs)
                    builder.edge(nodes[inputs], following[outputs], op, fixed)
            nodes = following
        (end,) = nodes.values()
        return builder.build(end)

    def _fixed(self, slot: _Slot, middle: int, outputs: int) -> tuple[tuple[int, int], ...]:
        """The genes that a slot decides: those of groups that no op before it has."""
        decided = ((slot.middle, middle), (slot.outputs, outputs))
        return tuple(
            (self._columns[place], choice)
            for place, choice in decided
            if place is not None and place != slot.inputs
        )


def _expands(slot: _Slot) -> bool:
    return isinstance(slot.op, MBConv) and slot.middle != slot.inputs


def width_space_name(base: Architecture) -> str:
    """The name of the space of a network's narrower forms."""
    lists = (f"/{name}={'-'.join(f'{v:g}' for v in values)}" for name, values in base.lists)
    return f"{base.space}/{MARK}{''.join(lists)}/r={base.r}"


def _parsed(name: str) -> WidthSpace:
    """The space of a name; raises `UsageError`."""
    if name.count(f"/{MARK}/") > _MOST_TIMES:
        raise UsageError(f"space '{printable_line(name)[:80]}': narrowed over {_MOST_TIMES} times")
    space, _, rest = name.rpartition(f"/{MARK}/")
    try:
        lists = {
            key: [float(value) for value in text.split("-")]
            for key, _, text in (part.partition("=") for part in rest.split("/"))
        }
        base = get_space(space).parse(lists)
        made = WidthSpace(get_space(space).decode(get_space(space).encode(base)))
    except (ValueError, ResultError) as error:
        raise UsageError(f"space '{printable_line(name)[:80]}': {error}") from error
    if made.name != name:
        raise UsageError(f"space '{printable_line(name)[:80]}' is not canonical: '{made.name}'")
    return made


register_derived(MARK, _parsed)
