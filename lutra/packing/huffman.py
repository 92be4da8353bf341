"""Canonical Huffman codes, and many of them written and read at once.

Symbols of all streams stand in one row and are dealt out to *lanes*, the first to the first lane,
the next to the next one: lane L of N has symbols L, L + N, ... as bits of its own. So a reader
takes a symbol from every lane in one step of a few numpy operations, where one stream of bits would
be a loop over symbols in Python. Which code a symbol is in is known from its place in the row.
docs/decisions.md: Lanes of bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LONGEST_CODE = 12  # bits: a table of 4,096 entries tells every code
_WINDOW = 24  # bits: a code behind up to seven bits of the one before it
_SYMBOLS_PER_LANE = 2048  # a lane costs two to four bytes
MOST_LANES = 4096
_PART = 1 << 20  # symbols that are written at once

Bytes = npt.NDArray[np.uint8]


class Bits(NamedTuple):
    """Symbols as bits: the lanes one behind the other, each filled up to a whole byte."""

    content: bytes
    lane_bytes: npt.NDArray[np.int64]


def code_lengths(counts: npt.NDArray[np.int64]) -> Bytes:
    """The bits (0..12) of each symbol's code, by how often the symbols are: all at least once.

    The best lengths of which none is above 12 (package-merge: Larmore and Hirschberg, 1990). A
    symbol that is alone has none. At most 4,096 symbols.
    """
    lengths = np.zeros(len(counts), np.uint8)
    if len(counts) < 2:
        return lengths
    order = np.argsort(counts, kind="stable")
    leaves = [(int(counts[symbol]), (symbol,)) for symbol in order]
    row: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(LONGEST_CODE):
        pairs = zip(row[::2], row[1::2], strict=False)
        packages = [(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
        row = sorted([*leaves, *packages], key=lambda item: item[0])
    for _, symbols in row[: 2 * len(counts) - 2]:
        np.add.at(lengths, list(symbols), 1)
    return lengths


def require_code(lengths: Bytes) -> None:
    """Raise ValueError where lengths are those of no whole code of at most 12 bits."""
    if len(lengths) == 1 and lengths[0] == 0:
        return
    if len(lengths) < 2 or lengths.min() < 1 or lengths.max() > LONGEST_CODE:
        raise ValueError("a code of no such lengths")
    if (1 << (LONGEST_CODE - lengths.astype(np.int64))).sum() != 1 << LONGEST_CODE:
        raise ValueError("a code that is not whole")


def _codes(lengths: Bytes) -> npt.NDArray[np.int64]:
    """The canonical code of each symbol, in the top bits of 12: by length, then by symbol."""
    steps = np.where(lengths > 0, 1 << (LONGEST_CODE - lengths.astype(np.int64)), 0)
    order = np.argsort(lengths, kind="stable")
    codes = np.zeros(len(lengths), np.int64)
    codes[order] = np.cumsum(steps[order]) - steps[order]
    return codes


def lanes_for(count: int) -> int:
    """How many lanes so many symbols are dealt out to."""
    return max(1, min(MOST_LANES, math.ceil(count / _SYMBOLS_PER_LANE)))


def write(streams: list[Bytes], codes: list[Bytes]) -> Bits:
    """The symbols of streams, each in the code of these lengths, as `read` takes them."""
    count = sum(map(len, streams))
    lanes = lanes_for(count)
    steps = math.ceil(count / lanes)
    sizes = np.zeros(steps * lanes, np.int64)  # what fills the last step up has no bits
    values = np.zeros(steps * lanes, np.int64)
    place = 0
    for symbols, lengths in zip(streams, codes, strict=True):
        sizes[place : place + len(symbols)] = lengths[symbols]
        values[place : place + len(symbols)] = _codes(lengths)[symbols]
        place += len(symbols)
    by_lane = sizes.reshape(steps, lanes).T
    lane_bytes = (by_lane.sum(axis=1) + 7) // 8
    starts = 8 * (np.cumsum(lane_bytes) - lane_bytes)
    positions = starts[:, None] + np.cumsum(by_lane, axis=1) - by_lane
    content = _placed(
        positions.ravel(), values.reshape(steps, lanes).T.ravel(), int(lane_bytes.sum())
    )
    return Bits(content, lane_bytes)


def _placed(positions: npt.NDArray[np.int64], values: npt.NDArray[np.int64], size: int) -> bytes:
    """Bytes with each value's 12 bits at its bit position, which rises; they overlap in no bit.

    (A code's bits below its own length are 0.)
    """
    out = np.zeros(size + 3, np.uint8)
    for start in range(0, len(positions), _PART):
        at, value = positions[start : start + _PART], values[start : start + _PART]
        first, offsets = int(at[0]) >> 3, at & 7
        window = value << (_WINDOW - LONGEST_CODE - offsets)
        for number in range(3):
            byte = (window >> (16 - 8 * number)) & 255
            sums = np.bincount((at >> 3) - first + number, weights=byte)
            out[first : first + len(sums)] |= sums[: len(out) - first].astype(np.uint8)
    return out[:size].tobytes()


def read(bits: Bits, counts: list[int], codes: list[Bytes]) -> list[Bytes]:
    """Streams of so many symbols, each in the code of these lengths (`require_code`).

    Raises ValueError where lanes do not end where they should.
    """
    count = sum(counts)
    lanes = len(bits.lane_bytes)
    if lanes != lanes_for(count) or int(bits.lane_bytes.sum()) != len(bits.content):
        raise ValueError("lanes of another length")
    content = np.zeros(len(bits.content) + 3, np.uint32)
    content[: len(bits.content)] = np.frombuffer(bits.content, np.uint8)
    windows = content[:-2] << 16 | content[1:-1] << 8 | content[2:]
    tables = np.concatenate([_table(lengths) for lengths in codes] or [np.zeros(0, np.uint16)])
    rows = np.repeat(np.arange(len(codes), dtype=np.int32) << LONGEST_CODE, counts)
    symbols = np.empty(count, np.uint8)
    ends = 8 * np.cumsum(bits.lane_bytes)
    places = ends - 8 * bits.lane_bytes
    for start in range(0, count, lanes):
        row = rows[start : start + lanes]
        place = places[: len(row)]
        window = windows.take(place >> 3, mode="clip")
        code = (window >> (_WINDOW - LONGEST_CODE - (place & 7)).astype(np.uint32)) & (
            (1 << LONGEST_CODE) - 1
        )
        entry = tables[row + code]
        symbols[start : start + lanes] = entry & 255
        place += entry >> 8
    if ((places > ends) | (places <= ends - 8)).any() and count:
        raise ValueError("lanes that end elsewhere")
    return np.split(symbols, np.cumsum(counts))[:-1]


def _table(lengths: Bytes) -> npt.NDArray[np.uint16]:
    """For each 12 bits the symbol whose code they begin with, and 256 times its length."""
    if len(lengths) == 1:
        return np.zeros(1 << LONGEST_CODE, np.uint16)
    order = np.argsort(lengths, kind="stable")
    wide = lengths[order].astype(np.int64)
    return np.repeat(order + 256 * wide, 1 << (LONGEST_CODE - wide)).astype(np.uint16)
