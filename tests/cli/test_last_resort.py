"""An error that nobody expected: one line, and what is needed to mend it in a file."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

import lutra
from lutra.cli.main import run
from lutra.devices.fake import FakeScript
from lutra.tables import LatencyTable
from tests.toys import Toy, install_toys

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lutra search` has a bug."""

    def find_networks(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug\nof \x1b[31m two lines")

    monkeypatch.setattr(lutra, "find_networks", find_networks)


def line_of(capsys: Capture) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return str(line)


@pytest.mark.usefixtures("broken")
def test_it_is_one_line_and_a_file(table_path: Path, temporary: Path, capsys: Capture) -> None:
    arguments = ["search", str(table_path), "--max-latency", "5ms"]
    assert run(arguments) == 1
    line = line_of(capsys)
    assert line.startswith("lutra: ZeroDivisionError: a bug of ?[31m two lines.")
    for part in (lutra.__version__, "lutra search", str(table_path), "report it"):
        assert part in line
    (file,) = temporary.iterdir()
    assert str(file) in line
    kept = file.read_text()
    assert "Traceback" in kept
    assert "find_networks" in kept
    assert str(table_path) in kept
    assert not file.stat().st_mode & 0o077


@pytest.mark.usefixtures("broken")
def test_verbose_shows_it_too(table_path: Path, capsys: Capture) -> None:
    assert run(["-v", "search", str(table_path), "--max-latency", "5ms"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("broken")
def test_without_a_temporary_folder_it_says_how_to_see_it(
    table_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert run(["search", str(table_path), "--max-latency", "5ms"]) == 1
    assert re.search("could not be written.*`lutra -v`", line_of(capsys))


def test_the_table_is_closed_with_what_was_measured(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def latency(model: Path) -> float:
        nonlocal asked
        asked += 1
        if asked == 50:
            raise ZeroDivisionError("a bug")
        return 1.0

    folder = tmp_path / "toys"
    folder.mkdir()
    install_toys(folder, monkeypatch, a=Toy(script=FakeScript(latency_ms=latency)))
    tables = tmp_path / "tables"
    tables.mkdir()
    assert run(["profile", "toy:a", "-o", str(tables / "a.lut")]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert [path.name for path in tables.iterdir()] == ["a.lut"]  # no -wal beside it
    with LatencyTable.open(tables / "a.lut") as table:
        assert table.rows("op")


@pytest.mark.parametrize(
    ("arguments", "resumes"),
    [
        (["search", "x.lut", "--max-latency", "5ms"], ""),
        (["export", "profile", "-o", "x"], ""),
        (["-v", "profile", "fake", "-o", "x.lut"], "rerun to resume"),
        (["profile", "fake", "-o", "x.lut", "--again", "30d"], "rerun without --again to resume"),
        (["profile", "fake", "-o", "x.lut", "--again=all"], "rerun without --again to resume"),
        (["calibrate", "x.lut"], "rerun to resume"),
    ],
)
def test_only_what_resumes_is_said_to(
    arguments: list[str], resumes: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("open_device", "calibrate", "export"):
        monkeypatch.setattr(lutra, name, interrupted)
    monkeypatch.setattr(lutra.LatencyTable, "open", interrupted)
    assert run(arguments) == 130
    errors = capsys.readouterr().err
    assert "lutra: interrupted" in errors
    assert resumes in errors
    assert ("resume" in errors) is bool(resumes)
