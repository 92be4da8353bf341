"""How an array's bytes become streams of symbols, and which way takes the fewest bits.

- *values*: each number is an index into the table of the array's distinct numbers, at most 256: the
  shared values of clustered weights (Han et al., "Deep Compression", ICLR 2016), 8-bit weights too;
- *runs*: how many zeros stand before each other number, and those numbers as indices: for weights
  most of which are 0 ("Deep Compression", with 255 for so many zeros and no number);
- *planes*: of numbers with many values, all first bytes, all second bytes and so on, as values;
- *product*: another array, times one number: the scales of biases are those of weights times the
  scale of the input;
- *plain*: left to a general compressor, which does better where bytes repeat each other.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.packing.arrays import Place
from lutra.packing.huffman import Bytes, code_lengths

VALUES, RUNS, PLANES, PRODUCT, PLAIN = range(5)
_LONGEST_RUN = 255
_MOST_VALUES = 256
_STREAM_BYTES = 8  # in a pack's directory
_SAMPLE_BYTES = 1 << 15
_NEAR = 12  # arrays before and behind, among which another one's factor is looked for

Numbers = npt.NDArray[Any]


class Stream(NamedTuple):
    """Symbols, indices into ``values``, in a code of these lengths; stored as they are without."""

    symbols: Bytes
    values: Numbers
    lengths: Bytes | None

    @property
    def bits(self) -> float:
        """What it takes in a pack, with its table."""
        if self.lengths is None:
            return 8.0 * (len(self.symbols) + _STREAM_BYTES)
        counts = np.bincount(self.symbols, minlength=len(self.values))
        table = len(self.values) * (self.values.itemsize + 1) + _STREAM_BYTES
        return float(counts @ self.lengths.astype(np.int64)) + 8.0 * table


class Coded(NamedTuple):
    """An array as streams, or as another one (``source`` counts places) times a ``factor``."""

    way: int
    streams: tuple[Stream, ...] = ()
    source: int = 0
    factor: np.float32 = np.float32(0)

    @property
    def bits(self) -> float:
        """What it takes in a pack."""
        return sum(stream.bits for stream in self.streams)


def coded(content: bytes, places: Sequence[Place]) -> list[Coded]:
    """The best way for each array of a file's content."""
    arrays = [content[place.offset : place.offset + place.size] for place in places]
    products = _products(arrays, places)
    return [
        products.get(index) or _best(data, place.width)
        for index, (data, place) in enumerate(zip(arrays, places, strict=True))
    ]


def decoded(item: Coded, place: Place) -> bytes:
    """The bytes of an array that is no product, by its streams; raises ValueError for others."""
    match item.way, item.streams:
        case 0, (numbers,):
            found = _numbers(numbers)
        case 1, (runs, numbers):
            found = _with_zeros(_numbers(runs), _numbers(numbers), place.size // place.width)
        case 2, planes:
            rows = [_numbers(plane) for plane in planes]
            if len(rows) != place.width or len({len(row) for row in rows}) > 1:
                raise ValueError("planes that are no array")
            found = np.stack(rows, axis=1)
        case _:
            raise ValueError("no such way to code an array")
    data = found.tobytes()
    if len(data) != place.size:
        raise ValueError("an array of another size")
    return data


def times(source: bytes, factor: np.float32) -> bytes:
    """An array of float32 times a factor, in float32."""
    with np.errstate(all="ignore"):
        product = np.frombuffer(source, "<f4") * np.float32(factor)
    return product.astype("<f4").tobytes()


def streams_of(way: int, width: int) -> int:
    """How many streams an array of such numbers has."""
    return {VALUES: 1, RUNS: 2, PLANES: width}.get(way, 0)


def _best(data: bytes, width: int) -> Coded:
    numbers = np.frombuffer(data, f"<u{width}")
    ways = [_as_values(numbers)]
    ways.append(_as_runs(numbers) if not numbers.all() else None)
    ways.append(_as_planes(data, width) if width > 1 else None)
    best = min((way for way in ways if way is not None), key=lambda way: way.bits)
    return best if best.bits < _deflated_bits(data) else Coded(PLAIN)


def _deflated_bits(data: bytes) -> float:
    """What a general compressor would take, told from the array's beginning."""
    sample = data[:_SAMPLE_BYTES]
    return 8.0 * len(zlib.compress(sample, 6)) * len(data) / len(sample)


def _stream(numbers: Numbers) -> Stream | None:
    """Numbers in the best code, or as they are; None where they have too many values."""
    if numbers.itemsize == 1:  # by counting, which is faster than sorting
        counts = np.bincount(numbers, minlength=_MOST_VALUES)
        values = np.flatnonzero(counts)
        symbols = (np.cumsum(counts > 0) - 1).astype(np.uint8)[numbers]
        counts = counts[values]
    else:
        if len(np.unique(numbers[: 4 * _MOST_VALUES])) > _MOST_VALUES:
            return None
        values, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        if len(values) > _MOST_VALUES:
            return None
        symbols = inverse.astype(np.uint8)
    stream = Stream(symbols, values.astype(numbers.dtype), code_lengths(counts))
    if numbers.itemsize == 1 and stream.bits >= 8 * len(numbers):
        return Stream(numbers, np.zeros(0, np.uint8), None)
    return stream


def _numbers(stream: Stream) -> Numbers:
    return stream.symbols if stream.lengths is None else stream.values[stream.symbols]


def _as_values(numbers: Numbers) -> Coded | None:
    stream = _stream(numbers)
    return None if stream is None else Coded(VALUES, (stream,))


def _as_planes(data: bytes, width: int) -> Coded:
    planes = np.frombuffer(data, np.uint8).reshape(-1, width).T
    streams = (_stream(np.ascontiguousarray(plane)) for plane in planes)
    return Coded(PLANES, tuple(stream for stream in streams if stream is not None))


def _as_runs(numbers: Numbers) -> Coded | None:
    places = np.flatnonzero(numbers)
    gaps = np.diff(places, prepend=-1) - 1
    longs = gaps // _LONGEST_RUN  # so many times 255 zeros and no number come first
    ends = np.cumsum(longs + 1) - 1
    runs = np.full(int(longs.sum()) + len(places), _LONGEST_RUN, np.uint8)
    runs[ends] = gaps % _LONGEST_RUN
    streams = [_stream(runs), _stream(numbers[places])] if len(places) else [None]
    known = tuple(stream for stream in streams if stream is not None)
    return Coded(RUNS, known) if len(known) == 2 else None


def _with_zeros(runs: Numbers, numbers: Numbers, count: int) -> Numbers:
    advances = np.where(runs < _LONGEST_RUN, runs.astype(np.int64) + 1, _LONGEST_RUN)
    places = np.cumsum(advances)[runs < _LONGEST_RUN] - 1
    if len(places) != len(numbers) or (places >= count).any():
        raise ValueError("runs that are no array")
    found = np.zeros(count, numbers.dtype)
    found[places] = numbers
    return found


def _products(arrays: Sequence[bytes], places: Sequence[Place]) -> dict[int, Coded]:
    """Arrays that are another one near them times a factor, in float32, to the last bit."""
    found: dict[int, Coded] = {}
    sources: set[int] = set()
    for index, place in enumerate(places):
        for other in range(max(0, index - _NEAR), min(len(places), index + _NEAR + 1)):
            alike = other != index and places[other][1:] == place[1:] and place.width == 4
            if not alike or index in sources or index in found or other in found:
                continue
            factor = _factor(arrays[other], arrays[index])
            if factor is not None:
                found[index] = Coded(PRODUCT, source=other, factor=factor)
                sources.add(other)
    return found


def _factor(source: bytes, data: bytes) -> np.float32 | None:
    """What ``source`` is to be multiplied with for ``data``; None where nothing gives it."""
    numbers, wanted = np.frombuffer(source, "<f4"), np.frombuffer(data, "<f4")
    place = int(np.argmax(np.abs(np.nan_to_num(numbers))))
    with np.errstate(all="ignore"):
        near = np.float32(wanted[place] / numbers[place])
        if not np.isfinite(near) or near == 0:
            return None
        steps = (near, np.nextafter(near, np.float32(0)), np.nextafter(near, 2 * near))
    return next((factor for factor in steps if times(source, factor) == data), None)
