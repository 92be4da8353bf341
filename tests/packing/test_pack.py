"""Packs unpack to the file that was packed, bit for bit, or are refused in one line."""

from __future__ import annotations

import contextlib
import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutra.emitters.emission import Emission
from lutra.errors import LutraError, ModelError, ResultError, UsageError
from lutra.ops import MBConv, Shape
from lutra.ops.graph import Graph
from lutra.packing.arrays import Place, places_in
from lutra.packing.coding import PLAIN, PLANES, PRODUCT, RUNS, VALUES, coded
from lutra.packing.container import _HEAD, _LZMA, _START, packed, unpacked
from lutra.packing.pack import pack, unpack

FILES = [(name, precision) for name in ("tflite", "onnx") for precision in ("fp32", "int8")]


def block() -> Graph:
    return MBConv(Shape(8, 8, 16), 24, 96, 5, 1, "h_swish", True, False).graph


@pytest.fixture(scope="module", params=FILES, ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, precision = request.param
    path = tmp_path_factory.mktemp("models") / f"{precision}.{name}"
    path.write_bytes(Emission(name, precision).builder(block)())
    return path


def test_a_file_comes_back_bit_for_bit(model: Path, tmp_path: Path) -> None:
    done = pack(model, tmp_path / "m.lpk")
    assert done.pack_bytes == (tmp_path / "m.lpk").stat().st_size < done.model_bytes
    again = unpack(tmp_path / "m.lpk", tmp_path / f"again{model.suffix}")
    assert again.path == done.path
    assert (tmp_path / f"again{model.suffix}").read_bytes() == model.read_bytes()


def test_weights_and_scales_are_found(model: Path) -> None:
    """All weights are in places; scales of biases are products of those of weights."""
    content = model.read_bytes()
    places = places_in(model, content)
    width = 1 if model.stem == "int8" else 4
    weights = sum(int(np.prod(shape)) for _, shape in block().weight_shapes() if len(shape) > 1)
    assert sum(place.size for place in places if place.width == width) >= weights * width
    ways = [way.way for way in coded(content, places)]
    assert (PRODUCT in ways) == (model.stem == "int8")


ARRAYS: dict[int, Callable[[np.random.Generator], bytes]] = {
    VALUES: lambda rng: rng.choice(np.array([-0.5, 0.1, 0.7, 2.0], np.float32), 3000).tobytes(),
    RUNS: lambda rng: (
        (rng.integers(1, 5, 9000) * (rng.random(9000) < 0.02)).astype("<i4").tobytes()
    ),
    PLANES: lambda rng: rng.standard_normal(3000).astype("<f4").tobytes(),
    PLAIN: lambda rng: np.arange(3000, dtype="<i4").tobytes(),
}


@pytest.mark.parametrize("way", ARRAYS)
def test_each_way_is_taken_where_it_is_the_best(way: int) -> None:
    data = ARRAYS[way](np.random.default_rng(0))
    content = b"head" + data + b"tail"
    places = [Place(4, len(data), 4)]
    ways = coded(content, places)
    assert [found.way for found in ways] == [way]
    pack_of = packed("onnx", content, places, ways)
    assert len(pack_of) < len(content)
    assert unpacked(pack_of).content == content


@st.composite
def contents(draw: st.DrawFn) -> tuple[bytes, list[Place]]:
    """Bytes with arrays in them: few values, many zeros, noise, and nothing at all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    content, places = b"", []
    for _ in range(draw(st.integers(0, 4))):
        content += draw(st.binary(max_size=9))
        width, count = draw(st.sampled_from((1, 2, 4))), draw(st.integers(16, 700))
        numbers = rng.integers(
            0, draw(st.sampled_from((1, 3, 255, 2**32 - 1))), count, endpoint=True
        )
        numbers *= rng.random(count) < draw(st.sampled_from((0.01, 0.3, 1)))
        data = numbers.astype(f"<u{width}").tobytes()
        places.append(Place(len(content), len(data), width))
        content += data
    return content + draw(st.binary(max_size=9)), places


@settings(max_examples=60, deadline=None)
@given(contents())
def test_any_bytes_come_back(drawn: tuple[bytes, list[Place]]) -> None:
    content, places = drawn
    found = unpacked(packed("tflite", content, places, coded(content, places)))
    assert found == ("tflite", content)


class ShortBytes(bytes):
    """Bytes that failing examples are printed without."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


@pytest.fixture(scope="module")
def small_pack(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "m.tflite"
    path.write_bytes(Emission("tflite", "int8").builder(block)())
    pack(path, path.with_suffix(".lpk"))
    return ShortBytes(path.with_suffix(".lpk").read_bytes())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_refused(small_pack: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(small_pack) - 1))
    flipped = small_pack[place] ^ data.draw(st.integers(1, 255))
    for damaged in (
        small_pack[:place],
        small_pack[:place] + bytes([flipped]) + small_pack[place + 1 :],
        small_pack + b"x",
    ):
        with pytest.raises(ValueError, match="^it is"):
            unpacked(damaged)


flipped_bits = st.tuples(st.integers(0, 90) | st.integers(0, 10**6), st.integers(0, 7))


@settings(max_examples=60, deadline=None)
@given(st.lists(flipped_bits, min_size=1, max_size=3))
def test_a_hostile_pack_is_refused_whatever_its_checksum_says(
    small_pack: bytes, flips: list[tuple[int, int]]
) -> None:
    """Sizes and tables that lie, behind a checksum that was made to fit."""
    body = small_pack[_START.size :]
    refused_or_the_same(small_pack, flipped(body, flips))


@settings(max_examples=60, deadline=None)
@given(st.lists(flipped_bits, min_size=1, max_size=3))
def test_a_hostile_directory_is_refused(small_pack: bytes, flips: list[tuple[int, int]]) -> None:
    """Flipped after it is decompressed, or it would hardly ever decompress."""
    *head, _, packed_size, stored_size = _HEAD.unpack_from(small_pack, _START.size)
    packed = small_pack[_START.size + _HEAD.size :]
    directory = lzma.decompress(packed[:packed_size], lzma.FORMAT_RAW, filters=_LZMA)
    hostile = flipped(directory, flips)
    compressed = lzma.compress(hostile, lzma.FORMAT_RAW, filters=_LZMA)
    sizes = len(hostile), len(compressed), stored_size
    body = _HEAD.pack(*head, *sizes) + compressed + packed[packed_size:]
    refused_or_the_same(small_pack, body)


def flipped(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, bit in flips:
        changed[place % len(changed)] ^= 1 << bit
    return bytes(changed)


def refused_or_the_same(pack: bytes, body: bytes) -> None:
    """The name of the format may be another, and bits that fill a byte up."""
    checksum = struct.pack("<I", zlib.crc32(body))
    found = None
    with contextlib.suppress(ValueError):
        found = unpacked(pack[: _START.size - len(checksum)] + checksum + body)
    if found is not None:
        assert found.content == unpacked(pack).content


def test_weights_beside_a_file_are_not_packed(tmp_path: Path) -> None:
    model, content = tmp_path / "m.onnx", Emission("onnx", "fp32").builder(block)()
    onnx.save(onnx.load_from_string(content), model, save_as_external_data=True, location="weights")
    refused(ModelError, "keeps weights in files beside it", model, tmp_path / "m.lpk")


def refused(kind: type[LutraError], part: str, model: Path, path: Path) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(kind, match=part) as error:
        (unpack if model.suffix == ".lpk" else pack)(model, path)
    assert "\n" not in str(error.value)
    assert sorted(path.parent.iterdir()) == before


def test_what_is_no_model_is_refused(tmp_path: Path, small_pack: bytes) -> None:
    files = {
        "a.tflite": b"\0\0\0\0TFL3 and nothing more",
        "b.onnx": b"no model",
        "c.txt": b"text",
        "d.onnx": small_pack,
        "e.lpk": b"no pack",
        "f.lpk": small_pack[:7] + b"\x09" + small_pack[8:],
        "g.lpk": small_pack[:-1],
        "h.lpk": small_pack,
        "kept.onnx": b"\x08\x08\x12mine",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.lpk"
    refused(ModelError, "no .tflite model", tmp_path / "a.tflite", out)
    refused(ModelError, "no ONNX model", tmp_path / "b.onnx", out)
    refused(ModelError, "ends in .tflite or .onnx", tmp_path / "c.txt", out)
    refused(ModelError, "is a pack already", tmp_path / "d.onnx", out)
    refused(ModelError, "no such file|No such file", tmp_path / "z.onnx", out)
    refused(UsageError, "a pack is not written over it", tmp_path / "b.onnx", tmp_path / "c.txt")
    with pytest.raises(ResultError, match="cannot write"):
        pack(tmp_path / "b.onnx", tmp_path / "nowhere" / "out.lpk")
    again = tmp_path / "again.tflite"
    refused(ModelError, "it is no pack", tmp_path / "e.lpk", again)
    refused(ModelError, "of version 9, and this lutra reads 1", tmp_path / "f.lpk", again)
    refused(ModelError, "damaged or not whole", tmp_path / "g.lpk", again)
    refused(UsageError, "the pack is of a .tflite file", tmp_path / "h.lpk", tmp_path / "x.onnx")
