"""Which spaces, resolutions and device a table was profiled for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lutra.errors import NotATableError, TableError, UsageError
from lutra.spaces import SearchSpace, get_space
from lutra.tables import LatencyTable

_META = "profiled"


@dataclass(frozen=True)
class Profiled:
    """One space of a table, with the resolutions it was profiled at."""

    space: SearchSpace
    resolutions: tuple[int, ...]


def note_profiled(
    table: LatencyTable, device: str, space: SearchSpace, resolutions: Sequence[int]
) -> None:
    """Remember in the table what it was asked to cover, and with which device."""
    document = _document(table)
    known = document["spaces"].get(space.name, [])
    document["spaces"][space.name] = sorted({*known, *resolutions})
    document["device"] = device
    table.put_meta(_META, document)


def device_of(table: LatencyTable) -> str:
    """The spec string of the device that the table was last profiled with."""
    device = _document(table)["device"]
    if not isinstance(device, str):
        raise UsageError(f"{table.path} does not say which device it is of; pass --device")
    return device


def profiled(table: LatencyTable, space_name: str | None = None) -> Profiled:
    """The table's space: the named one, or the only one.

    Raises `UsageError` when it must be named, `TableError` when the table does not cover it.
    """
    spaces = _document(table)["spaces"]
    if space_name is None:
        if len(spaces) != 1:
            found = ", ".join(spaces) or "none"
            raise UsageError(f"{table.path} covers these spaces: {found}; name one with --space")
        space_name = next(iter(spaces))
    space = get_space(space_name)
    if space_name not in spaces:
        raise TableError(
            f"{table.path} was not profiled for {space_name}, but for {', '.join(spaces)};"
            f" `lutra profile DEVICE --space {space_name} -o {table.path}` adds it"
        )
    space.check_resolutions(spaces[space_name])
    return Profiled(space, tuple(spaces[space_name]))


def _document(table: LatencyTable) -> dict[str, Any]:
    document = table.meta(_META) or {"spaces": {}, "device": None}
    spaces = document.get("spaces") if isinstance(document, dict) else None
    if not isinstance(spaces, dict) or not all(
        isinstance(values, list) and all(isinstance(value, int) for value in values)
        for values in spaces.values()
    ):
        raise NotATableError(f"{table.path} is damaged: '{_META}' is not as lutra writes it")
    return {"device": None, **document}
