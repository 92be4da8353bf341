"""`lutra pack` and `lutra unpack` from the command line."""

from __future__ import annotations

from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from tests.cli.test_cli import Capture, assert_one_line, call, call_json


def test_a_file_goes_into_a_pack_and_comes_out(tmp_path: Path, capsys: Capture) -> None:
    model, pack, again = (tmp_path / name for name in ("m.tflite", "m.lpk", "again.tflite"))
    model.write_bytes(
        Emission("tflite", "int8").builder(lambda: Conv(Shape(8, 8, 32), 64, kernel=3).graph)()
    )
    packed = call_json(capsys, "pack", model, "-o", pack)
    assert packed["pack_bytes"] == pack.stat().st_size
    assert packed["ratio"] > 1
    assert call("unpack", pack, "-o", again) == 0
    assert capsys.readouterr().out.strip() == str(again)
    assert again.read_bytes() == model.read_bytes()

    pack.write_bytes(pack.read_bytes()[:-3])
    again.unlink()
    assert call("unpack", pack, "-o", again) == 1
    assert_one_line(capsys, "m.lpk", "damaged or not whole")
    assert not again.exists()
    assert call("pack", model, "-o", model) == 2
    assert_one_line(capsys, "m.tflite", "a pack is not written over it")
