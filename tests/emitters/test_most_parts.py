"""Files of a few bytes for each thing that they unpack to: refused, or read in bounded memory.

At most, so measured: 410 MiB and 4 s for an ONNX file, 90 MiB and 4 s for a TFLite file, beside the
bytes of the file itself. Before there were bounds it was that for each few megabytes of a file.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from lutra.emitters.model_file import read_model_file
from lutra.emitters.onnx_parts import MOST_PARTS, TooManyPartsError, require_few_parts
from lutra.emitters.tflite_reader import MOST_TABLES
from lutra.errors import ModelError
from tests.emitters.test_model_file import LIGHT
from tests.fuzz.models import field, shared_tflite

_FEW = 100  # those that are around the many
_LIBRARIES_MIB, _LIBRARIES_SECONDS = 50, 3.0  # of what reads files, loaded with the first

NODE = b"\x0a\x00"  # the first field, and no byte of it


def graph(content: bytes) -> bytes:
    return field(7, content)


def attribute(content: bytes) -> bytes:
    return graph(field(1, field(5, content)))


ONNX: dict[str, Callable[[int], bytes]] = {
    "nodes": lambda count: graph(NODE * count),
    "weights": lambda count: graph(NODE + b"\x2a\x00" * count),
    "attributes": lambda count: graph(field(1, b"\x2a\x00" * count)),
    "tensors of an attribute": lambda count: attribute(b"\x52\x00" * count),
    "graphs of an attribute": lambda count: attribute(b"\x5a\x00" * count),
    "functions": lambda count: graph(NODE) + b"\xca\x01\x00" * count,
    "names": lambda count: graph(field(1, b"\x0a\x00" * count)),
    "lists of 32 numbers": lambda count: graph(NODE + field(5, field(7, bytes(32 * count)))),
    "unknown fields": lambda count: graph(NODE) + b"\xc0\x3e\x00" * count,
}
TFLITE: dict[str, Callable[[int], bytes]] = {
    "tensors": lambda count: shared_tflite(subgraphs=1, tensors=count, operators=1, name_bytes=1),
    "operators": lambda count: (
        shared_tflite(subgraphs=1, tensors=2, operators=count, name_bytes=1)
        + bytes(12 * count)  # room for what they read and write
    ),
    "subgraphs": lambda count: shared_tflite(subgraphs=count, tensors=0, operators=0, name_bytes=1),
}


def written(folder: Path, name: str, count: int) -> Path:
    path = folder / ("many.tflite" if name in TFLITE else "many.onnx")
    path.write_bytes({**ONNX, **TFLITE}[name](count))
    return path


@pytest.mark.parametrize("name", [*ONNX, *TFLITE])
def test_more_are_refused_soon(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, MOST_TABLES if name in TFLITE else 10 * MOST_PARTS)
    before = time.process_time()
    with pytest.raises(ModelError, match="has more than .* no network that can be timed here"):
        read_model_file(path)
    assert time.process_time() - before < 4.0


_READ = """
import re, sys, time
from lutra.emitters.model_file import read_model_file

def peak():
    return int(*re.findall(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())) // 1024

before, path = peak(), sys.argv[1]
read_model_file(path)
print(peak() - before, time.process_time())
"""


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("tensors of an attribute", 1),  # takes the most memory
        ("lists of 32 numbers", 1),
        ("functions", 8),  # take the most time
        ("tensors", 8),
        ("operators", 8),
    ],
)
def test_as_many_as_are_read_take_bounded_memory(name: str, share: int, tmp_path: Path) -> None:
    """What takes seconds to read in full is read in part, of which the same part is allowed."""
    most = MOST_TABLES if name in TFLITE else MOST_PARTS
    path = written(tmp_path, name, (most - _FEW) // share)
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=True
    )
    mebibytes, seconds = map(float, done.stdout.split())
    assert mebibytes < _LIBRARIES_MIB + 500 / share
    assert seconds < _LIBRARIES_SECONDS + 20.0 / share  # 4 on a machine that nobody else is on


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_real_networks_have_far_fewer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lutra.emitters.onnx_parts.MOST_PARTS", MOST_PARTS // 10)
    require_few_parts(path.read_bytes(), onnx.ModelProto.DESCRIPTOR)


def test_parts_of_parts_count_and_bytes_do_not() -> None:
    weights = onnx.TensorProto(raw_data=bytes(1 << 20), float_data=[0.0] * 1000)
    model = onnx.ModelProto(graph=onnx.GraphProto(initializer=[weights]))
    content, descriptor = model.SerializeToString(), onnx.ModelProto.DESCRIPTOR
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lutra.emitters.onnx_parts.MOST_PARTS", 4)  # graph, tensor, two lists
        require_few_parts(content, descriptor)
        patch.setattr("lutra.emitters.onnx_parts.MOST_PARTS", 3)
        with pytest.raises(TooManyPartsError):
            require_few_parts(content, descriptor)


@pytest.mark.parametrize(
    "content",
    [b"\x0b\x0c", b"\x3a\x05\x00", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x3a"],
)
def test_what_is_no_message(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no ONNX model"):
        read_model_file(path)
