"""Sizes of a family that a space's name may give: for other data than ImageNet.

A name reads ``FAMILY-wWIDTH/attribute=value/...``: ``ofa-mbv3-w0.5/classes=10/channels=1/stem=1``
is OFA-MobileNetV3 of half the width for ten classes of grey images whose first convolution keeps
the resolution. Attributes stand in the order of `Variant`'s fields, and only where they differ
from ImageNet's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields

from lutra.errors import UsageError

_NAME = re.compile(r"(?P<family>[a-z0-9-]+?)(-w(?P<width>\d{1,2}(\.\d{1,3})?))?")
_RESOLUTIONS = re.compile(r"(\d{1,4}):(\d{1,4}):(\d{1,3})")
_UNNAMED_WIDTH = {"ofa-resnet50d"}  # families whose authors name no width; it is 1.0 then
_LARGEST = {"classes": 1 << 16, "channels": 16, "stem": 2}
_WIDEST = 8.0
_LARGEST_RESOLUTION = 1024
_MOST_RESOLUTIONS = 64


@dataclass(frozen=True)
class Variant:
    """What differs from ImageNet: classes, image channels, the first stride, resolutions.

    ``r`` is the lowest and highest resolution and the step between them; None for the family's.
    """

    classes: int = 1000
    channels: int = 3
    stem: int = 2
    r: tuple[int, int, int] | None = None

    def resolutions(self, of_family: tuple[int, ...]) -> tuple[int, ...]:
        """The resolutions that the images may have."""
        if self.r is None:
            return of_family
        low, high, step = self.r
        return tuple(range(low, high + 1, step))

    def suffix(self) -> str:
        """What a name has behind the width: ``/classes=10/channels=1``."""
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return "".join(
            f"/{name}={':'.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in changed.items()
        )


@dataclass(frozen=True)
class FamilyName:
    """A space's name in parts; ``width`` multiplies the family's channels."""

    family: str
    width: float
    variant: Variant

    def __str__(self) -> str:
        named = self.width != 1.0 or self.family not in _UNNAMED_WIDTH
        width = f"-w{self.width}" if named else ""
        return f"{self.family}{width}{self.variant.suffix()}"


def parse_family_name(name: str, is_family: Callable[[str], bool]) -> FamilyName | None:
    """The parts of a family's name; None for a name of no family.

    Raises `UsageError` for attributes that are unknown, out of range or not in canonical form.
    """
    head, *attributes = name.split("/")
    match = _NAME.fullmatch(head)
    if match is None or not is_family(match["family"]):
        return None
    if match["width"] is None and match["family"] not in _UNNAMED_WIDTH:
        return None
    width = float(match["width"] or 1.0)
    if not 0 < width <= _WIDEST:
        raise UsageError(f"space '{name:.80}': its width must be above 0, at most {_WIDEST:g}")
    values = dict(_attribute(name, text) for text in attributes)
    parsed = FamilyName(match["family"], width, Variant(**values))  # type: ignore[arg-type]
    if str(parsed) != name:
        raise UsageError(f"space '{name:.80}' is not in canonical form; write '{parsed}'")
    return parsed


def _attribute(name: str, text: str) -> tuple[str, int | tuple[int, int, int]]:
    key, _, value = text.partition("=")
    if key == "r":
        return key, _resolutions(name, value)
    if key not in _LARGEST:
        known = ", ".join((*_LARGEST, "r"))
        raise UsageError(f"space '{name:.80}': unknown attribute '{key:.20}'; known: {known}")
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:6]) <= _LARGEST[key]):
        raise UsageError(f"space '{name:.80}': {key} must be from 1 to {_LARGEST[key]}")
    return key, int(value[:6])


def _resolutions(name: str, text: str) -> tuple[int, int, int]:
    match = _RESOLUTIONS.fullmatch(text)
    low, high, step = map(int, match.groups()) if match else (0, 0, 0)
    if not 8 <= low <= high <= _LARGEST_RESOLUTION or step < 1:
        raise UsageError(
            f"space '{name:.80}': write r as LOW:HIGH:STEP, from 8 to {_LARGEST_RESOLUTION}"
        )
    if (high - low) // step >= _MOST_RESOLUTIONS:
        raise UsageError(f"space '{name:.80}': at most {_MOST_RESOLUTIONS} resolutions")
    return low, high, step
