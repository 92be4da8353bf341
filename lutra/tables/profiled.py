"""What a table was profiled for: its spaces and their resolutions, and with which device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lutra.errors import NotATableError, TableError, UsageError
from lutra.tables.table import LatencyTable

_META = "profiled"


@dataclass(frozen=True)
class Profiled:
    """Resolutions in pixels by the name of their space, and the spec string of the last device."""

    spaces: dict[str, tuple[int, ...]]
    device: str | None


def read_profiled(table: LatencyTable) -> Profiled:
    """What a table was profiled for; raises `NotATableError` where that is damaged."""
    document = table.meta(_META) or {"spaces": {}}
    spaces = document.get("spaces") if isinstance(document, dict) else None
    if not isinstance(spaces, dict) or not all(
        isinstance(values, list) and all(isinstance(value, int) for value in values)
        for values in spaces.values()
    ):
        raise NotATableError(f"{table.path} is damaged: '{_META}' is not as lutra writes it")
    device = document.get("device")
    return Profiled(
        {name: tuple(values) for name, values in spaces.items()},
        device if isinstance(device, str) else None,
    )


def note_profiled(
    table: LatencyTable, device: str | None, space: str, resolutions: Sequence[int]
) -> None:
    """Remember in the table what it was asked to cover, and with which device, if any."""
    known = read_profiled(table).spaces
    merged = {**known, space: sorted({*known.get(space, ()), *resolutions})}
    table.put_meta(_META, {"device": device, "spaces": merged})


def device_of(table: LatencyTable) -> str:
    """The spec string of the table's last device; raises `UsageError` where none is known.

    Raises `TableError` for a table of models, which can be neither calibrated nor searched.
    """
    profiled = read_profiled(table)
    device = profiled.device
    if device is None and not profiled.spaces:
        raise _of_models(table)
    if device is None:
        raise UsageError(f"{table.path} does not say which device it is of; pass --device")
    return device


def _of_models(table: LatencyTable) -> TableError:
    return TableError(
        f"{table.path} holds no ops of a search space, only models of yours:"
        " `lutra profile DEVICE -o FILE` without --model makes a table of one"
    )


def resolutions_of(table: LatencyTable, space: str | None = None) -> tuple[str, tuple[int, ...]]:
    """The name and the resolutions of the table's space: the named one, or the only one.

    Raises `UsageError` when it must be named, `TableError` when the table does not cover it, or
    none.
    """
    spaces = read_profiled(table).spaces
    if space is None:
        if not spaces:
            raise _of_models(table)
        if len(spaces) != 1:
            found = ", ".join(spaces)
            raise UsageError(f"{table.path} covers these spaces: {found}; name one with --space")
        return next(iter(spaces.items()))
    if space not in spaces:
        raise TableError(
            f"{table.path} was not profiled for {space}, but for {', '.join(spaces) or 'models'};"
            f" `lutra profile DEVICE --space {space} -o {table.path}` adds it"
        )
    return space, spaces[space]
