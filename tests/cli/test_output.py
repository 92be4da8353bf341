"""What is printed: no cursor is moved by what others say, and tables fit a terminal."""

from __future__ import annotations

import io
import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from adbutils import adb_path
from hypothesis import given
from hypothesis import strategies as st

import lutra
from lutra.cli.layout import folded, table_lines
from lutra.cli.main import run
from lutra.cli.output import note, print_table
from lutra.devices.remote.adb_shell import attached
from lutra.tables import LatencyTable
from tests.terminal import in_terminal

pytestmark = pytest.mark.usefixtures("hollow")

Capture = pytest.CaptureFixture[str]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\x9bK\u202e"


def call(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def assert_tame(capsys: Capture, *says: str) -> None:
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert all(line.isprintable() for line in printed.split("\n"))
    for text in says:
        assert text in printed


@pytest.fixture
def hostile_path(table_path: Path) -> Path:
    """A table of a device whose model would take the terminal over, whose rows too."""
    lutra.calibrate(table_path, networks=4)
    with LatencyTable.open(table_path, write=True) as table:
        table.put_meta("target", {**table.target.to_json(), "device_model": HOSTILE})
        table._connection.execute("UPDATE measurements SET flags = ?", (HOSTILE,))
    return table_path


def test_a_hostile_table_moves_no_cursor(
    hostile_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    result = tmp_path / "result.json"
    assert call("table", "show", hostile_path, "--category", "all") == 0
    assert_tame(capsys, "owned")
    search = ["search", hostile_path, "--max-latency", "20ms", "--algorithm", "random"]
    assert call(*search, "-o", result) == 0
    assert_tame(capsys)
    assert call("predict", hostile_path, "--arch", result) == 0
    assert_tame(capsys)
    assert call("calibrate", hostile_path) == 1
    assert_tame(capsys, "another target", "owned")
    assert call("verify", result, "--device", "fake") == 1
    assert_tame(capsys, "another target", "owned")
    assert call("-v", "profile", "fake", "-o", hostile_path) == 1
    assert_tame(capsys, "Traceback", "owned")
    assert call(*search, "--json") == 0
    assert json.loads(capsys.readouterr().out)["target"]["device_model"] == HOSTILE


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([HOSTILE], 2),
        ([f"--{HOSTILE}"], 2),
        (["table", "show", "x.lut", "--category", HOSTILE], 2),
        (["search", "x.lut", "--seed", HOSTILE], 2),
        (["search", "x.lut", "--max-latency", HOSTILE], 2),
        (["profile", HOSTILE, "-o", "x.lut"], 2),
        (["spaces", HOSTILE], 2),
        (["table", "show", HOSTILE], 1),
        (["-v", "export", HOSTILE, "-o", "x"], 1),
    ],
)
def test_words_of_the_command_line_move_no_cursor(
    arguments: list[str], code: int, capsys: Capture
) -> None:
    assert run(arguments) == code
    assert_tame(capsys)


HUGE = "x" * 2_000_000


@pytest.mark.parametrize("name", ["space", "version", "format"])
def test_no_error_line_is_as_long_as_what_it_quotes(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "huge.json"
    document = {"format": "lutra-search-result", "version": 1, "space": "s", "target": {}}
    path.write_text(json.dumps({**document, name: HUGE}))
    model = tmp_path / "huge.onnx"
    onnx.save(huge_model(), model)
    for command in (
        ["verify", path, "--device", "fake"],
        ["export", path, "-o", tmp_path / "m.onnx"],
        ["predict", path, "--arch", path],
        ["profile", "fake", "--model", model, "-o", tmp_path / "x.lut"],
        ["spaces", HUGE],
        ["table", "show", HUGE],
        [HUGE],
    ):
        assert call(*command) != 0, command
        assert len(capsys.readouterr().err) <= 1100, command


def huge_model() -> onnx.ModelProto:
    """With an input whose size is left open under a name of megabytes."""
    given = onnx.helper.make_tensor_value_info(HUGE, onnx.TensorProto.FLOAT, [HUGE, 3])
    made = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [HUGE, 3])
    node = onnx.helper.make_node("Relu", [HUGE], ["y"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", [given], [made]))


def test_a_result_of_others_moves_no_cursor(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"format": "lutra-search-result", "version": HOSTILE}))
    assert call("verify", path, "--device", "fake") == 1
    assert_tame(capsys, "version")


def test_progress_bars_show_no_escapes(table_path: Path) -> None:
    """On a real terminal, where the bars' own are sent."""
    spec = f"fake:{HOSTILE}"
    seen = in_terminal(
        ["profile", "fake", spec, "-o", f"{table_path.parent}/new/", "--networks", "0"], columns=80
    )
    assert "owned" in seen.raw
    for part in ("\x1b]0", "\x07", "\x1b[2J", "\x9b", "\u202e"):
        assert part not in seen.raw


def test_the_adb_server_starts_in_silence(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
    try:
        assert attached() == {}
        assert capfd.readouterr() == ("", "")
    finally:
        subprocess.run([adb_path(), "-P", port, "kill-server"], check=True)


def test_what_an_encoding_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stderr", stream)
    note("850 \N{MICRO SIGN}s \udcff")
    stream.seek(0)
    assert stream.read().startswith("850 ?s")


# tables

TEXT = st.text(st.sampled_from("ab/, _-9"), max_size=30)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=4), st.integers(1, 60))
def test_nothing_of_a_table_is_lost_however_narrow_it_is(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    lines = table_lines(["op", "latency_ms", "flags"], rows, [False, True, False], width)
    shown, given = "".join(lines), "".join("".join(row) for row in rows)
    for letter in "9/,-":  # those that no heading has
        assert shown.count(letter) == given.count(letter)


def test_a_table_is_folded_between_words_to_fit() -> None:
    key = "mbconv/56x56x24-28x28x40/mid=96/k=5/s=2/act=relu/se=1/res=0"
    rows = [[key, "1.234", "a word or two that go on and on"]]
    wide = table_lines(["key", "ms", "what"], rows, [False, True, False])
    assert wide[1] == f"{key}  1.234  a word or two that go on and on"
    narrow = table_lines(["key", "ms", "what"], rows, [False, True, False], 60)
    assert max(map(len, narrow)) <= 60
    words = set(" ".join(narrow).split())
    assert {"word", "two", "1.234"} <= words
    assert any(word.endswith("/") for word in words)


def test_a_table_too_wide_to_fold_is_a_block_for_each_row() -> None:
    columns = [f"column_{number}" for number in range(8)]
    lines = table_lines(columns, [["x" * 12] * 8] * 2, [False] * 8, 40)
    assert lines[:2] == ["column_0  xxxxxxxxxxxx", "column_1  xxxxxxxxxxxx"]
    assert lines[8] == ""
    assert len(lines) == 17


def test_a_pipe_gets_whole_lines(capsys: Capture) -> None:
    print_table(["a"], [["long " * 100]])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_remark_is_folded_but_no_command_in_it() -> None:
    command = "`lutra profile DEVICE --space ofa-mbv3-w1.2 -o cpu.lut`"
    lines = folded(f"cpu.lut was not profiled for that: {command}, which adds it", 40)
    assert command + "," in lines
    assert all(len(line) <= 40 for line in lines if command not in line)
    assert folded("", 40) == [""]


@given(st.text(st.sampled_from("ab` "), max_size=60), st.integers(1, 30))
def test_nothing_of_a_remark_is_lost(text: str, width: int) -> None:
    lines = folded(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert lines[0].startswith(text[: len(text) - len(text.lstrip())] if text.strip() else "")


@pytest.mark.parametrize("columns", [80, pytest.param(160, marks=pytest.mark.slow)])
def test_tables_fit_a_terminal(columns: int, table_path: Path, tmp_path: Path) -> None:
    lutra.calibrate(table_path, networks=4)
    result = tmp_path / "result.json"
    limit = ["--max-latency", "20ms", "--algorithm", "random", "-o", result]
    commands: list[list[object]] = [
        ["table", "show", table_path],
        ["spaces"],
        ["search", table_path, *limit],
        ["predict", table_path, "--arch", result],
        ["verify", result, "--device", "fake"],
        ["profile", "fake", "-o", table_path, "--networks", "4"],
        ["calibrate", table_path, "--networks", "4"],
        ["validate", table_path, "--networks", "4"],
    ]
    seen = in_terminal(*commands, columns=columns, stderr=False)
    assert seen.status == 0
    for words, lines in zip(commands, seen.pages, strict=True):
        assert lines, words
        assert max(map(len, lines)) <= columns, words


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_nobody_has_to_listen(closed: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m lutra spaces {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("ofa-mbv3" in done.stdout) == (closed == "2>&-")
