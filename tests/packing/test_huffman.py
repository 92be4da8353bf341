"""Codes are as short as they can be, and lanes give back what was written to them."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.packing import huffman

COUNTS = st.lists(st.integers(1, 10**6), min_size=2, max_size=256)


def huffman_bits(counts: list[int]) -> int:
    """The bits of Huffman's own codes, of any length: the sum of what is merged."""
    heap, total = sorted(counts), 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_codes_are_whole_and_near_the_entropy(counts: list[int]) -> None:
    lengths = huffman.code_lengths(np.array(counts))
    huffman.require_code(lengths)
    bits = int(np.array(counts) @ lengths.astype(np.int64))
    assert bits >= huffman_bits(counts)
    if lengths.max() < huffman.LONGEST_CODE:
        assert bits == huffman_bits(counts)
    shares = np.array(counts) / sum(counts)
    assert bits <= (1.2 - (shares * np.log2(shares)).sum()) * sum(counts)


def test_rare_symbols_get_codes_of_twelve_bits() -> None:
    counts = [2**power for power in range(30)]
    lengths = huffman.code_lengths(np.array(counts))
    huffman.require_code(lengths)
    assert lengths.max() == huffman.LONGEST_CODE
    assert lengths[-1] == 1


@pytest.mark.parametrize("lengths", [[], [1], [0, 0], [1, 2], [1, 1, 1], [13] * 8192, [0, 1, 1]])
def test_lengths_of_no_code_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="a code"):
        huffman.require_code(np.array(lengths, np.uint8))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 256)), max_size=5), st.integers(0))
def test_streams_come_back(sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    streams = [
        (values * rng.random(count) ** 3).astype(np.uint8) for count, values in sizes if count
    ]
    streams = [np.unique(stream, return_inverse=True)[1].astype(np.uint8) for stream in streams]
    codes = [huffman.code_lengths(np.bincount(stream)) for stream in streams]
    bits = huffman.write(streams, codes)
    again = huffman.read(bits, [len(stream) for stream in streams], codes)
    for stream, found in zip(streams, again, strict=True):
        assert np.array_equal(stream, found)
    least = sum(len(stream) for stream in streams) / 2048
    assert len(bits.lane_bytes) == max(1, math.ceil(least))


def test_lanes_that_end_elsewhere_are_refused() -> None:
    symbols = (np.arange(4000) % 7).astype(np.uint8)
    code = huffman.code_lengths(np.bincount(symbols))
    bits = huffman.write([symbols], [code])
    other = np.roll(bits.lane_bytes, 1) + np.array([40, -40])
    with pytest.raises(ValueError, match="elsewhere"):
        huffman.read(huffman.Bits(bits.content, other), [4000], [code])
    with pytest.raises(ValueError, match="another length"):
        huffman.read(bits, [40000], [code])
