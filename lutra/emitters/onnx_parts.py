"""What an ONNX file unpacks to, counted in its bytes before anything is made of them.

Two bytes say that there is one more operator with nothing in it, which takes a hundred times as
much in memory. So the parts of a file are counted: messages, names, numbers. Weights that are kept
as bytes are one part, however large they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

MOST_PARTS = 1 << 19  # networks of thousands of operators have some 100,000
_NUMBERS_PER_PART = 32  # in a list: 8 bytes each, where a part takes up to 256
_MOST_LEVELS = 100  # protobuf reads no deeper

_VARINT, _BYTES = 0, 2  # kinds of fields, as the wire names them
_LENGTHS = {_VARINT: 0, 1: 8, 5: 4}  # bytes behind the key and number; groups ONNX has none of
_MESSAGE_TYPE = 11
_NUMBER_TYPES = {3, 4, 5, 8, 13, 14, 17, 18}  # those whose lists are varints
_NUMBERS: Final = "numbers"


class TooManyPartsError(ValueError):
    """A message unpacks to more than `MOST_PARTS`."""


def require_few_parts(content: bytes, message: Any) -> None:
    """Raise `TooManyPartsError`, or ValueError where it is no message of this type (descriptor)."""
    left, place, end = MOST_PARTS, 0, len(content)
    fields = _fields(message)
    around: list[tuple[dict[int, Any], int]] = []
    while True:
        while place == end:
            if not around:
                return
            fields, end = around.pop()
        key, place = _varint(content, place)
        kind = key & 7
        size, place = _varint(content, place) if kind in (_VARINT, _BYTES) else (0, place)
        start, place = place, place + (size if kind == _BYTES else _LENGTHS.get(kind, len(content)))
        if place > end:
            raise ValueError("a part is longer than what it is in, or of no known kind")
        left -= 1
        field = fields.get(key >> 3) if kind == _BYTES else None
        if field is _NUMBERS:
            left -= _numbers(content, start, size) // _NUMBERS_PER_PART
        elif field is not None:
            around.append((fields, end))
            fields, place, end = _fields(field), start, place
        if left < 0:
            raise TooManyPartsError
        if len(around) > _MOST_LEVELS:
            raise ValueError("it is too deep")


@cache
def _fields(message: Any) -> dict[int, Any]:
    """The fields of a message that hold others, by number: their type, or that they are numbers."""
    return {
        number: field.message_type if field.type == _MESSAGE_TYPE else _NUMBERS
        for number, field in message.fields_by_number.items()
        if field.type == _MESSAGE_TYPE or field.type in _NUMBER_TYPES
    }


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of variable length, and the place behind it; raises IndexError behind the end."""
    byte = content[place]
    if byte < 128:
        return byte, place + 1
    value = byte & 127
    for more in range(1, 10):
        byte = content[place + more]
        value |= (byte & 127) << 7 * more
        if byte < 128:
            return value, place + more + 1
    raise ValueError("a number of more than 10 bytes")


def _numbers(content: bytes, start: int, size: int) -> int:
    """How many numbers a list holds: their last bytes are those below 128."""
    return int(np.count_nonzero(np.frombuffer(content, np.uint8, size, start) < 128))
