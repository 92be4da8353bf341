"""The narrower forms of one network of a space: fewer channels wherever the ops stay what they are.

A block with a shortcut may be left out: it has no channels inside then.

What pruning chooses from. A space's name holds the network's, so that tables, results and accuracy
models of it need nothing beside them: ``SPACE/widths/ks=3-5/e=4-6/d=2/r=224``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lutra.errors import ResultError, UsageError
from lutra.ops import Bottleneck, Conv, Linear, MBConv, OpConfig, Pool
from lutra.ops.config import scope_of
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Indices, Rows
from lutra.spaces.lattice import NO_OP
from lutra.spaces.narrower import Group, NarrowerForms, Place, Slot
from lutra.spaces.registry import get_space, register_derived
from lutra.text import printable_line

MARK = "widths"
_MOST_TIMES = 8  # that a network was narrowed, space by space


class WidthSpace(NarrowerForms):
    """The narrower forms of ``base``.

    Where a block would have as many channels inside as it is given, which for `MBConv` means no
    expansion, it has the next choice. Raises `UsageError` for a network that has grouped
    convolutions other than depthwise ones.
    """

    def __init__(self, base: Architecture) -> None:
        self.base = base
        space = get_space(base.space)
        if isinstance(space, NarrowerForms) and not isinstance(space, WidthSpace):
            raise UsageError(f"networks of {space.name} are no chains of ops: ask `narrower_forms`")
        groups, slots = _linked(space.ops_of(base))
        super().__init__(width_space_name(base), base.r, groups, slots)

    def narrowed(self, slot: Slot, channels: Sequence[int]) -> OpConfig | None:
        op = slot.op
        inputs, middle, outputs = channels
        given = inputs or op.input_shape.channels
        shape = op.input_shape._replace(channels=given)
        match op:
            case Conv():
                return replace(op, input_shape=shape, out_channels=outputs)
            case MBConv() | Bottleneck():
                if _expands(slot) and middle == given:
                    return None
                return replace(op, input_shape=shape, mid_channels=middle, out_channels=outputs)
        return replace(op, input_shape=shape)

    def canonical(self, rows: Rows) -> Rows:
        result = rows.copy()
        for slot in filter(_expands, self._slots):
            inputs, middle, _ = slot.places
            assert middle is not None
            given = slot.op.input_shape.channels if inputs is None else self._chosen(result, inputs)
            result[:, self._columns[middle]] += self._chosen(result, middle) == given
        return result

    def full_names(self, architecture: Architecture) -> dict[str, str]:
        used = np.flatnonzero(self.op_indices(self.encode(architecture)[None])[0] != NO_OP)
        scopes = {scope_of(position): scope_of(int(slot)) for position, slot in enumerate(used)}
        names = {}
        for node in self.graph(architecture).nodes:
            scope, dot, rest = node.name.partition(".")
            names[node.name] = f"{scopes[scope]}{dot}{rest}"
        return names

    def _chosen(self, rows: Rows, place: int) -> Indices:
        """(N,): how many channels a group has."""
        choices = np.array(self._groups[place].choices, dtype=np.int32)
        chosen: Indices = choices[rows[:, self._columns[place]]]
        return chosen


def _linked(ops: Sequence[OpConfig]) -> tuple[list[Group], list[Slot]]:
    """The ops with the groups of what they are given, have inside and hand on.

    The image's channels and the number of classes are fixed.
    """
    groups: list[Group] = []
    slots: list[Slot] = []

    def group(channels: int, *, inner: bool = False, spare: bool = False) -> int:
        groups.append(Group(channels, inner, spare))
        return len(groups) - 1

    current: Place = None
    for op in ops:
        inputs, middle = current, None
        match op:
            case Pool():
                pass
            case Linear():
                current = None
            case Conv(groups=1):
                current = current if op.residual else group(op.out_channels)
            case MBConv():
                expands = op.mid_channels != op.input_shape.channels
                middle = inputs
                if expands:
                    middle = group(op.mid_channels, inner=True, spare=op.residual)
                current = current if op.residual else group(op.out_channels)
            case Bottleneck():
                middle = group(op.mid_channels, inner=True, spare=not op.downsample)
                current = group(op.out_channels) if op.downsample else current
            case _:
                raise UsageError(f"{op.key} has no narrower forms")
        slots.append(Slot(op, (inputs, middle, current)))
    return groups, slots


def _expands(slot: Slot) -> bool:
    inputs, middle, _ = slot.places
    return isinstance(slot.op, MBConv) and middle != inputs


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
