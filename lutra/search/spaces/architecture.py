"""One architecture of a search space, and the JSON forms it is written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lutra.errors import ResultError


@dataclass(frozen=True)
class Architecture:
    """An immutable record of choices, in OFA's own terms.

    ``ks`` kernel sizes per block (empty for a family without that choice), ``e`` expansion ratios
    per block, ``d`` depth per stage, ``w`` width indices (ResNet only), ``r`` the input
    resolution in pixels.
    """

    space: str
    ks: tuple[int, ...]
    e: tuple[float, ...]
    d: tuple[int, ...]
    r: int
    w: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `from_json` reads; empty settings are left out."""
        settings: dict[str, Any] = {"space": self.space}
        for name in ("ks", "e", "d", "w"):
            values = getattr(self, name)
            if values:
                settings[name] = list(values)
        settings["r"] = self.r
        return settings

    @classmethod
    def from_json(cls, document: object, space: str | None = None) -> Architecture:
        """Read one of OFA's dictionaries: resolution as ``r`` (number or list) or ``image_size``.

        ``space`` is the space to assume where the document names none. Raises `ResultError`.
        """
        if not isinstance(document, Mapping):
            raise ResultError("an architecture must be a JSON object with ks, e, d and r")
        named = document.get("space", space)
        if not isinstance(named, str):
            raise ResultError('the architecture does not name its space; add "space" to it')
        if space is not None and named != space:
            raise ResultError(f"the architecture is of space '{named}', not of '{space}'")
        resolution = document.get("r", document.get("image_size"))
        if isinstance(resolution, list) and len(resolution) == 1:
            resolution = resolution[0]
        if not isinstance(resolution, int):
            raise ResultError('the architecture has no resolution; add "r": 224, for example')
        return cls(
            named,
            ks=tuple(int(v) for v in _numbers(document, "ks")),
            e=_numbers(document, "e"),
            d=tuple(int(v) for v in _numbers(document, "d")),
            r=resolution,
            w=tuple(int(v) for v in _numbers(document, "w")),
        )


def _numbers(document: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = document.get(name) or ()
    if not isinstance(values, list | tuple) or not all(
        isinstance(value, int | float) for value in values
    ):
        raise ResultError(f'the architecture\'s "{name}" must be a list of numbers')
    return tuple(values)
