"""What commands write: over nothing else, in the format that the name says, after it is shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lutra
from lutra.cli import quickstart
from lutra.errors import ResultError
from lutra.files.kinds import MODELS
from lutra.search.result import SearchResult
from lutra.tables.measurement import VERIFY
from tests.cli.test_cli import assert_one_line, call, call_json
from tests.conftest import SPACE

pytestmark = pytest.mark.usefixtures("hollow")

Capture = pytest.CaptureFixture[str]
SEARCH = ("--max-latency", "20ms", "--algorithm", "random")


# over nothing else


@pytest.mark.parametrize(
    ("command", "victim", "says"),
    [
        (["search", "TABLE", *SEARCH], "TABLE", "is a latency table: a search result is not"),
        (["search", "TABLE", *SEARCH], "NOTES", "is a file of another kind: a search result"),
        (["export", "RESULT"], "RESULT", "is a search result: an ONNX model is not written"),
        (["export", "RESULT"], "TABLE", "is a latency table: an ONNX model is not written"),
        (["export", "RESULT", "--format", "torch"], "NOTES", "another kind: a torch model"),
        (["profile", "fake"], "RESULT", "is a search result: a latency table is not written"),
        (["profile", "fake"], "NOTES", "is a file of another kind: a latency table"),
        (["profile", "fake", "--dry-run"], "NOTES", "is a file of another kind: a latency table"),
    ],
)
def test_no_command_writes_over_its_input_or_another_kind(
    command: list[str],
    victim: str,
    says: str,
    table_path: Path,
    result_path: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine, for years")
    files = {"TABLE": table_path, "RESULT": result_path, "NOTES": notes}
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    arguments = [files.get(word, word) for word in command]
    assert call(*arguments, "-o", files[victim]) == 2
    assert_one_line(capsys, str(files[victim]), says)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_older_output_of_the_same_kind_is_replaced(
    table_path: Path, result_path: Path, tmp_path: Path
) -> None:
    before = result_path.read_bytes()
    assert call("search", table_path, *SEARCH, "--seed", 5, "-o", result_path) == 0
    assert result_path.read_bytes() != before
    for _ in range(2):
        assert call("export", result_path, "-o", tmp_path / "model.onnx") == 0


def test_quickstart_writes_over_nothing_of_another_kind(tmp_path: Path, capsys: Capture) -> None:
    for name in ("cpu.lut", "result.json", "model.onnx"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine, for years")
        assert call("quickstart", "--device", "fake", "-o", folder) == 2
        assert_one_line(capsys, name, "is a file of another kind")
        assert [(item.name, item.read_text()) for item in folder.iterdir()] == [
            (name, "mine, for years")
        ]


# in the format that the name says


@pytest.mark.parametrize(
    ("name", "flags", "format_name"),
    [
        ("m.tflite", [], "tflite"),
        ("m.TFLITE", [], "tflite"),
        ("m.onnx", ["--format", "onnx"], "onnx"),
        ("m.torch", [], "torch"),
        ("m.pt", [], "torch"),
        ("m", [], "onnx"),
        ("m.bin", ["--format", "tflite"], "tflite"),
    ],
)
def test_the_suffix_chooses_the_format(
    name: str,
    flags: list[str],
    format_name: str,
    result_path: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    path = tmp_path / name
    document = call_json(capsys, "export", result_path, *flags, "-o", path)
    assert document["format"] == format_name
    assert MODELS[format_name].is_one(path.read_bytes())


@pytest.mark.parametrize(("name", "asked"), [("a.onnx", "tflite"), ("a.pth", "onnx")])
def test_a_suffix_of_another_format_is_refused(
    name: str, asked: str, result_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / name
    assert call("export", result_path, "--format", asked, "-o", path) == 2
    assert_one_line(capsys, f"{name} is to be {asked}, but", "suffix")
    assert not path.exists()


# verify


@pytest.fixture
def read_only(result_path: Path, tmp_path: Path) -> Path:
    """The result on a disk that cannot be written to."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs Linux and root")
    path = Path(shutil.copy(result_path, disk))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return path


def test_verify_says_before_it_measures_that_it_cannot_write(
    read_only: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []
    monkeypatch.setattr(lutra, "verify", lambda *_, **__: measured.append(1))
    try:
        assert call("verify", read_only, "--device", "fake") == 1
        assert_one_line(capsys, "cannot write", "Read-only file system")
        assert not measured
    finally:
        subprocess.run(["umount", "--lazy", str(read_only.parent)], check=True)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_measured_is_shown_when_it_cannot_be_written_after_all(
    as_json: bool, result_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: lutra.SearchResult, path: Path, over: lutra.SearchResult) -> None:
        raise lutra.LutraError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(lutra.SearchResult, "write", refuse)
    assert call("verify", result_path, "--device", "fake", *(["--json"] if as_json else [])) == 1
    captured = capsys.readouterr()
    assert "No space left" in captured.err
    if as_json:
        assert json.loads(captured.out)["measured_ms"] > 0
    else:
        assert "measured_ms" in captured.out


@pytest.mark.parametrize("meanwhile", ["changed", "damaged", "removed", "written anew"])
def test_a_result_that_was_changed_meanwhile_is_left_as_it_is(
    meanwhile: str, result_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = result_path.read_text()
    new: dict[str, str | None] = {
        "changed": json.dumps({**json.loads(before), "notes": ["mine"]}),
        "damaged": before[:100],
        "removed": None,
        "written anew": json.dumps(json.loads(before)),
    }
    verify = lutra.verify

    def verify_slowly(*arguments: Any, **named: Any) -> lutra.SearchResult:
        result_path.unlink()
        if (text := new[meanwhile]) is not None:
            result_path.write_text(text)
        return verify(*arguments, **named)

    monkeypatch.setattr(lutra, "verify", verify_slowly)
    kept = meanwhile in ("changed", "damaged")
    assert call("verify", result_path, "--device", "fake") == int(kept)
    captured = capsys.readouterr()
    assert "measured_ms" in captured.out
    assert ("result.json was changed by another program" in captured.err) is kept
    if kept:
        assert result_path.read_text() == new[meanwhile]
    else:
        assert "measured_ms" in json.loads(result_path.read_text())


def test_what_quickstart_measured_is_kept_where_the_result_cannot_be_written(
    table_path: Path, result_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "CALIBRATE_NETWORKS", 4)
    monkeypatch.setattr(quickstart, "VALIDATE_NETWORKS", 4)

    def write(result: lutra.SearchResult, path: Path) -> None:
        if result.closed_loop is not None:
            raise ResultError(f"cannot write {path}: the disk is full")

    monkeypatch.setattr(lutra.SearchResult, "write", write)
    folder = tmp_path / "quick"
    folder.mkdir()
    shutil.copy(table_path, folder / "cpu.lut")
    assert call("quickstart", "--device", "fake", "-o", folder) == 1
    with lutra.LatencyTable.open(folder / "cpu.lut") as opened:
        assert opened.rows("network", VERIFY)


def test_a_result_behind_a_link_is_replaced_and_the_link_stays(
    result_path: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(result_path)
    result_path.chmod(0o600)
    assert call("verify", link, "--device", "fake") == 0
    assert link.is_symlink()
    assert result_path.stat().st_mode & 0o777 == 0o600
    assert json.loads(result_path.read_text())["measured_ms"] > 0


def test_the_best_network_as_ofa_s_config(
    table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    config, result = tmp_path / "config.json", tmp_path / "result.json"
    assert call("search", table_path, *SEARCH, "-o", result, "--ofa-config", config) == 0
    best = SearchResult.read(result).best
    document = json.loads(config.read_text())
    assert list(document) == ["ks", "e", "d", "r"]
    assert document == {
        **{name: list(best.architecture[name]) for name in ("ks", "e", "d")},
        "r": [best.architecture.r],
    }
    capsys.readouterr()
    assert call("predict", table_path, "--arch", config, "--json") == 0
    assert json.loads(capsys.readouterr().out)["predicted_ms"] == best.predicted_ms
    model = tmp_path / "model.onnx"
    assert call("export", config, "-o", model) == 1
    assert "does not name its space" in capsys.readouterr().err
    assert call("export", config, "--space", SPACE, "-o", model) == 0
    assert call("export", result, "--space", SPACE, "-o", model) == 0
    assert call("export", result, "--space", "ofa-mbv3-w1.2", "-o", model) == 1
    assert call("search", table_path, *SEARCH, "--ofa-config", config) == 0  # it is replaced
    assert json.loads(config.read_text()) == document


@pytest.mark.parametrize("victim", ["fake.lut", "notes.json"])
def test_a_config_is_not_written_over_another_kind(
    victim: str, table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    before = (tmp_path / victim).read_bytes()
    assert call("search", table_path, *SEARCH, "--ofa-config", tmp_path / victim) == 2
    assert_one_line(capsys, victim, "an OFA config is not written over it")
    assert (tmp_path / victim).read_bytes() == before
