"""A pack's bytes: a head, a directory with tables and all that is no array, streams, bits.

The head has a checksum of all behind it, so that no damage goes unseen, and the digest of the file
that was packed, so that what is unpacked is that file. Every size in it is held against a limit and
against what is there before anything is made of it.

::

    head        magic, version, CRC-32 of the rest; format, size and SHA-256 of the file; lengths
    directory   (LZMA) arrays: gap to the one before, size, width, way; products: source, factor;
                streams: symbols, size of their table; lanes: bytes; tables; what is plain
    stored      streams without a code
    bits        all other streams, as `huffman` writes them
"""

from __future__ import annotations

import hashlib
import itertools
import lzma
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.packing import huffman
from lutra.packing.arrays import FEWEST_BYTES, MOST_ARRAYS, Place
from lutra.packing.coding import PLAIN, PRODUCT, Coded, Stream, decoded, streams_of, times

MAGIC = b"LUTRAPK"
VERSION = 1
MOST_BYTES = 1 << 28  # of a file; unpacking takes some ten times as much memory
FORMATS = ("tflite", "onnx")
_MOST_STREAMS = 1 << 12  # each has a table of 8 KiB while bits are read
_START = struct.Struct("<7sBI")
_HEAD = struct.Struct("<BI32sIIIIII")
_STORED = 0  # in the place of a table's size
_WIDTHS = (1, 2, 4)  # of numbers, in bytes
# Not said in a pack: another setting needs another version.
_LZMA: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME}]


class Unpacked(NamedTuple):
    """A file's content, and which of `FORMATS` it is."""

    format: str
    content: bytes


def packed(format_name: str, content: bytes, places: Sequence[Place], ways: list[Coded]) -> bytes:
    """The pack of a file (at most `MOST_BYTES`) of these arrays, each coded in its way.

    At most `MOST_ARRAYS`, none smaller than `FEWEST_BYTES`.
    """
    ways = _few_streams(ways)
    streams = [stream for way in ways for stream in way.streams]
    in_code = [stream for stream in streams if stream.lengths is not None]
    bits = huffman.write(
        [stream.symbols for stream in in_code], [_lengths(stream) for stream in in_code]
    )
    directory = b"".join(
        (
            *_columns(places, ways, streams, bits.lane_bytes),
            *(stream.values.tobytes() + _lengths(stream).tobytes() for stream in in_code),
            *_plain(content, places, ways),
        )
    )
    small = lzma.compress(directory, lzma.FORMAT_RAW, filters=_LZMA)
    stored = b"".join(item.symbols.tobytes() for item in streams if item.lengths is None)
    counts = (len(places), len(streams), len(bits.lane_bytes))
    sizes = (len(directory), len(small), len(stored))
    digest = hashlib.sha256(content).digest()
    head = _HEAD.pack(FORMATS.index(format_name), len(content), digest, *counts, *sizes)
    body = b"".join((head, small, stored, bits.content))
    return _START.pack(MAGIC, VERSION, zlib.crc32(body)) + body


def unpacked(pack: bytes) -> Unpacked:
    """The file of a pack, to the last bit; raises ValueError for one that is damaged or hostile."""
    magic, version, checksum = _START.unpack_from(pack) if len(pack) > _START.size else (b"", 0, 0)
    if magic != MAGIC:
        raise ValueError("it is no pack")
    if version != VERSION:
        raise ValueError(f"it is a pack of version {version}, and this lutra reads {VERSION}")
    if zlib.crc32(memoryview(pack)[_START.size :]) != checksum:
        raise ValueError("it is damaged or not whole")
    try:
        found = _body(pack)
    except (ValueError, IndexError, struct.error, lzma.LZMAError) as error:
        raise ValueError("it is damaged") from error
    return found


def _body(pack: bytes) -> Unpacked:
    format_index, size, digest, arrays, streams, lanes, *sizes = _HEAD.unpack_from(
        pack, _START.size
    )
    directory_size, small_size, stored_size = sizes
    too_many = arrays > min(MOST_ARRAYS, size // FEWEST_BYTES) or streams > _MOST_STREAMS
    if size > MOST_BYTES or too_many or lanes > huffman.MOST_LANES:
        raise ValueError("larger than packs are")
    # What is plain, and of each array, stream and lane some numbers and a table.
    if directory_size > size + 32 * arrays + 2048 * streams + 4 * lanes:
        raise ValueError("a directory larger than its parts")
    parts = _Parts(pack, _START.size + _HEAD.size)
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
    directory = decompressor.decompress(parts.take(small_size), directory_size)
    if len(directory) != directory_size:
        raise ValueError("a directory of another size")
    stored, bits = _Parts(parts.take(stored_size)), parts.rest()
    content = _content(_Parts(directory), stored, bits, size, (arrays, streams, lanes))
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("another file than was packed")
    return Unpacked(FORMATS[format_index], content)


class _Parts:
    """Bytes that are taken from the front; raises ValueError where there are not as many."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data, self._place = data, place

    def take(self, size: int) -> bytes:
        start, self._place = self._place, self._place + size
        if self._place > len(self._data):
            raise ValueError("it ends too soon")
        return self._data[start : self._place]

    def numbers(self, dtype: str, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._place)


def _few_streams(ways: Sequence[Coded]) -> list[Coded]:
    """The ways, from the limit of streams on plain ones."""
    left = _MOST_STREAMS
    kept = []
    for way in ways:
        kept.append(way if len(way.streams) <= left else Coded(PLAIN))
        left -= len(kept[-1].streams)
    return kept


def _lengths(stream: Stream) -> huffman.Bytes:
    assert stream.lengths is not None
    return stream.lengths


def _columns(
    places: Sequence[Place],
    ways: Sequence[Coded],
    streams: Sequence[Stream],
    lane_bytes: npt.NDArray[np.int64],
) -> Iterator[bytes]:
    """Numbers of one kind together, in the order in which `_content` takes them."""
    ends = [0, *(place.offset + place.size for place in places)]
    products = [way for way in ways if way.way == PRODUCT]
    columns = (
        ("<u4", [place.offset - end for place, end in zip(places, ends, strict=False)]),
        ("<u4", [place.size for place in places]),
        ("<u1", [place.width for place in places]),
        ("<u1", [way.way for way in ways]),
        ("<u4", [way.source for way in products]),
        ("<f4", [way.factor for way in products]),
        ("<u4", [len(stream.symbols) for stream in streams]),
        ("<u1", [stream.values.itemsize for stream in streams]),
        ("<u2", [_STORED if item.lengths is None else len(item.values) for item in streams]),
        ("<u4", lane_bytes),
    )
    yield from (np.asarray(column, dtype).tobytes() for dtype, column in columns)


def _plain(content: bytes, places: Sequence[Place], ways: Sequence[Coded]) -> Iterator[bytes]:
    """The file's bytes but for those of arrays that are coded."""
    end = 0
    for place, way in zip(places, ways, strict=True):
        if way.way != PLAIN:
            yield content[end : place.offset]
            end = place.offset + place.size
    yield content[end:]


def _content(
    directory: _Parts, stored: _Parts, bits: bytes, size: int, counts: tuple[int, int, int]
) -> bytes:
    """The file that a directory, stored streams and bits make."""
    arrays, streams, lanes = counts
    gaps, sizes = directory.numbers("<u4", arrays), directory.numbers("<u4", arrays)
    widths, ways = directory.numbers("<u1", arrays), directory.numbers("<u1", arrays)
    ends = np.cumsum(gaps.astype(np.int64) + sizes)
    if arrays and (ends[-1] > size or not np.isin(widths, _WIDTHS).all()):
        raise ValueError("arrays that are larger than the file")
    places = [
        Place(int(end) - int(length), int(length), int(width))
        for end, length, width in zip(ends, sizes, widths, strict=True)
    ]
    products = int((ways == PRODUCT).sum())
    sources = iter(directory.numbers("<u4", products).tolist())
    factors = iter(directory.numbers("<f4", products))
    found = iter(_streams(directory, stored, bits, (streams, lanes), 2 * size))
    items = [
        Coded(PRODUCT, source=next(sources), factor=next(factors))
        if way == PRODUCT
        else Coded(way, tuple(itertools.islice(found, streams_of(way, place.width))))
        for way, place in zip(ways.tolist(), places, strict=True)
    ]
    return _assembled(places, items, directory, size)


def _streams(
    directory: _Parts, stored: _Parts, bits: bytes, counts: tuple[int, int], most_symbols: int
) -> list[Stream]:
    """All streams; those in a code are read at once."""
    streams, lanes = counts
    symbols = directory.numbers("<u4", streams).tolist()
    widths = directory.numbers("<u1", streams).tolist()
    table_sizes = directory.numbers("<u2", streams).tolist()
    lane_bytes = directory.numbers("<u4", lanes).astype(np.int64)
    if sum(symbols) > most_symbols or not set(widths) <= set(_WIDTHS):
        raise ValueError("more symbols than the file has numbers, or wider ones")
    tables = [
        (directory.numbers(f"<u{width}", size), directory.numbers("<u1", size))
        for width, size in zip(widths, table_sizes, strict=True)
        if size != _STORED
    ]
    for _, lengths in tables:
        huffman.require_code(lengths)
    in_code = [n for n, size in zip(symbols, table_sizes, strict=True) if size != _STORED]
    codes = [lengths for _, lengths in tables]
    read = iter(huffman.read(huffman.Bits(bits, lane_bytes), in_code, codes))
    waiting = iter(tables)
    return [
        Stream(stored.numbers("<u1", count), np.zeros(0, np.uint8), None)
        if size == _STORED
        else Stream(next(read), *next(waiting))
        for count, size in zip(symbols, table_sizes, strict=True)
    ]


def _assembled(places: Sequence[Place], items: Sequence[Coded], plain: _Parts, size: int) -> bytes:
    """The file: arrays where they belong, products from those, and what is plain around them."""
    content = bytearray(size)
    end = 0
    for place, item in zip(places, items, strict=True):
        if item.way == PLAIN:
            continue
        content[end : place.offset] = plain.take(place.offset - end)
        end = place.offset + place.size
        if item.way != PRODUCT:
            content[place.offset : end] = decoded(item, place)
    content[end:] = plain.take(size - end)
    for place, item in zip(places, items, strict=True):
        if item.way == PRODUCT:
            source = places[item.source]
            data = times(bytes(content[source.offset : source.offset + source.size]), item.factor)
            if len(data) != place.size:
                raise ValueError("a product of another size")
            content[place.offset : place.offset + place.size] = data
    return bytes(content)
