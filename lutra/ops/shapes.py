"""Feature-map shapes and the size arithmetic that every network family shares."""

from __future__ import annotations

import re
from typing import NamedTuple

from lutra.errors import UsageError

_MAX_DIMENSION = 1 << 16
_SHAPE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})")


class Shape(NamedTuple):
    """One feature map without its batch: height, width, channels."""

    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.channels}"

    @property
    def elements(self) -> int:
        """How many numbers the feature map holds."""
        return self.height * self.width * self.channels

    def strided(self, stride: int, channels: int) -> Shape:
        """The shape after a 'same'-padded layer with this stride and these output channels."""
        return Shape(-(-self.height // stride), -(-self.width // stride), channels)


def parse_shape(text: str) -> Shape:
    """Read ``HxWxC``; raises `UsageError` for anything else or a dimension above 65536."""
    match = _SHAPE.fullmatch(text)
    if match is None or max(map(int, match.groups())) > _MAX_DIMENSION:
        raise UsageError(f"'{text[:60]}' is not a shape; write HxWxC, such as 56x56x24")
    return Shape(*map(int, match.groups()))


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round channels to a multiple of ``divisor``, never losing more than a tenth.

    The rule of the MobileNet papers' reference code, which OFA uses for every width.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
