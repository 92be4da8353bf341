"""`lutra report`: a page that is whole, needs nothing else, and says what it cannot show."""

from __future__ import annotations

import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import lutra
from lutra.errors import NotATableError, ResultError, UsageError
from lutra.report.content import Content
from lutra.report.figures.difference import difference
from lutra.report.figures.drawing import NothingToDraw
from lutra.report.figures.inline import inline_svg
from lutra.report.figures.op_latencies import cliffs
from lutra.report.figures.picture import write_picture
from lutra.report.write import write_report
from lutra.tables import LatencyTable, Target
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.conftest import SPACE
from tests.report.pages import Page
from tests.shared_data import shared_data

pytestmark = pytest.mark.usefixtures("hollow")

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}$x_$\x1b[31m\u202e\x00'
FIGURES = 5  # of a table


@pytest.fixture(scope="module")
def whole(profiled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A calibrated and validated table, a result of one budget and a front; not to be changed."""
    folder = tmp_path_factory.mktemp("report")
    table = Path(shutil.copy(profiled_once, folder / "whole.lut"))
    lutra.calibrate(table, networks=6)
    lutra.validate(table, networks=4)
    result, front = folder / "result.json", folder / "front.json"
    found = lutra.verify(lutra.find_networks(table, max_latency_ms=20, algorithm="random"))
    found.write(result)
    lutra.find_front(table, hyperparameters={"population": 40, "generations": 5}).write(front)
    return table, result, front


def report(tables: list[Path], results: list[Path], path: Path) -> Page:
    write_report(tables, results, path)
    assert path.stat().st_size <= 2 << 20
    page = Page(path)
    page.require_sound()
    return page


def test_a_whole_report(whole: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table, result, front = whole
    page = report([table], [result, front], tmp_path / "report.html")
    assert len(page.figures) == FIGURES + 1
    assert "absent" not in [each.get("class") for _, each in page.elements]
    with LatencyTable.open(table) as opened:
        ops = opened.op_latencies()
        stated = lutra.EfficiencyPredictor(opened).stated
    told = ["".join(mark.itertext()) for mark in page.figures[2].iter() if mark.get("class")]
    assert {text.split("\n")[0] for text in told} == set(ops)
    assert all("6 visits, stable; no flags" in text for text in told)
    assert stated is not None
    assert f"within {stated.percent:.1f} % for 95 % of networks" in page.words
    assert "on 4 fresh networks" in page.words
    assert "calibrated on 6 networks, which tell little of others" in page.words
    best = lutra.SearchResult.read(result).best
    assert best.verified is not None
    assert f"{best.verified.measured_ms:.4g}" in page.texts

    again = tmp_path / "again.html"
    write_report([str(table)], [lutra.SearchResult.read(result), front], again)
    assert again.read_bytes() == (tmp_path / "report.html").read_bytes()
    write_report([table], [], again)  # over one of its kind
    assert "No search result was given" in again.read_text()


def test_tables_stand_side_by_side(
    whole: tuple[Path, Path, Path], table_path: Path, tmp_path: Path
) -> None:
    page = report([whole[0], table_path], [], tmp_path / "report.html")
    assert len(page.figures) == 2 * FIGURES - 1  # one has no networks
    assert "The tables side by side" in page.words
    assert f"{SPACE} is not calibrated" in page.words
    assert "`lutra calibrate` and `lutra validate` measure some" in page.words


def test_models_of_the_user_s(tmp_path: Path, whole: tuple[Path, Path, Path]) -> None:
    model = tmp_path / "model.onnx"
    lutra.export(whole[1], model)
    lutra.profile_models("fake", [model], tmp_path / "models.lut")
    page = report([tmp_path / "models.lut"], [], tmp_path / "report.html")
    assert len(page.figures) == 1  # drift and noise
    for said in (
        "The table holds models of its user's, which nothing predicts",
        "The table holds no ops that networks could be put together from",
        "The table holds no ops with a latency",
    ):
        assert said in page.words


def test_an_empty_table(tmp_path: Path) -> None:
    target = replace(Target.of_import(), device="fake", threads=1, batch=1)
    LatencyTable.create(tmp_path / "empty.lut", target).close()
    page = report([tmp_path / "empty.lut"], [], tmp_path / "report.html")
    assert page.text.count('class="absent"') == FIGURES + 1
    assert "The table holds no rows yet" in page.words


def test_hostile_text_is_text(whole: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table = Path(shutil.copy(whole[0], tmp_path / "<b>&.lut"))
    with sqlite3.connect(table) as connection:
        word = HOSTILE.replace("\x00", "").replace("'", "")
        target = 'json_set(value, "$.device_model", ?, "$.runtime", ?, "$.precision", ?)'
        target = target.replace('"', "'")
        connection.execute(
            f"UPDATE meta SET value = {target} WHERE name = 'target'", (word, word, word)
        )
        connection.execute("UPDATE measurements SET flags = ?", (word,))
        connection.execute("UPDATE visits SET flags = ?", (word,))
        connection.execute("UPDATE runs SET document = json_object('seed', ?)", (word,))
        connection.execute("UPDATE runs SET started = ?", (word,))
        subjects = "INSERT INTO subjects (category, key) VALUES ('op', ?)"
        number = connection.execute(subjects, (word,)).lastrowid
        failures = "INSERT INTO failures VALUES (?, ?, ?, 0, 3, 'now')"
        connection.execute(failures, (number, word, word))
    connection.close()
    found = lutra.SearchResult.read(whole[1])
    hostile = replace(
        found,
        table=HOSTILE,
        algorithm=HOSTILE,
        notes=(HOSTILE,),
        target=replace(found.target, device_model=HOSTILE),
    )
    write_report([table], [hostile], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    page.require_sound()  # one script, nothing that loads or reacts
    assert len(page.figures) == FIGURES + 1
    assert "img" not in [tag for tag, _ in page.elements]
    assert not {"\x1b", "\u202e", "\x00"} & set(page.text)
    assert "{{7*7}}" in page.text


def test_a_table_of_every_resolution_is_quick_and_small(tmp_path: Path) -> None:
    path = tmp_path / "full.lut"
    space = lutra.get_space(SPACE)
    watch = lutra.Watch(budget_seconds=0.0)
    lutra.profile("fake", SPACE, path, resolutions=space.resolutions, networks=0, watch=watch)
    with sqlite3.connect(path) as connection:  # the rows of a finished profile
        for op in space.ops:
            subjects = "INSERT OR IGNORE INTO subjects (category, key) VALUES ('op', ?)"
            connection.execute(subjects, (op.key,))
        connection.execute("DELETE FROM failures")
        connection.execute(
            "INSERT INTO measurements (subject, latency_ms, ci_low_ms, ci_high_ms, median_ms,"
            " minimum_ms, rounds, processes, drift, flags, status)"
            " SELECT id, id, id * 0.99, id * 1.01, id, id, 6, 2, 0, '', 'stable' FROM subjects"
            " WHERE category = 'op'"
        )
    connection.close()
    start = time.process_time()
    page = report([path], [], tmp_path / "report.html")
    assert time.process_time() - start < 6.0  # with the page taken apart; alone it takes under 3
    marks = [each for each in page.figures[1].iter() if each.get("class") == "mark"]
    assert len(marks) == len(space.ops) == 1257


def test_the_dearest_ops_for_their_work_are_named(table_path: Path) -> None:
    with sqlite3.connect(table_path) as connection:
        (key,) = connection.execute(
            "SELECT key FROM subjects WHERE key LIKE 'mbconv/14x%' LIMIT 1"
        ).fetchone()
        connection.execute(
            "UPDATE measurements SET latency_ms = 100 * latency_ms"
            " WHERE subject = (SELECT id FROM subjects WHERE key = ?)",
            (key,),
        )
    connection.close()
    op, times = cliffs(Content.read(table_path))[0]
    assert op.config.key == key
    assert times > 20


def test_the_command(whole: tuple[Path, Path, Path], tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "report.html"
    said = call_json(capsys, "report", whole[1], whole[0], "-o", path)
    assert said == {"report": str(path), "tables": [str(whole[0])], "results": [str(whole[1])]}
    assert len(Page(path).figures) == FIGURES + 1


def test_bad_input_is_one_line(
    whole: tuple[Path, Path, Path], tmp_path: Path, capsys: Capture
) -> None:
    table, result, _ = whole
    path, kept, readonly = (tmp_path / name for name in ("r.html", "kept.html", "readonly.html"))
    kept.write_text("<p>mine")
    write_report([table], [], readonly)
    readonly.chmod(0o444)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00\xff")
    capsys.readouterr()
    for arguments, code, says in (
        ([result, "-o", path], 2, "about a table at least"),
        ([table, garbage, "-o", path], 1, "garbage is not valid JSON"),
        ([tmp_path / "none.lut", "-o", path], 2, "cannot read"),
        ([table, "-o", kept], 2, "a report is not written over it"),
        ([table, "-o", readonly], 1, "it is read-only"),
        ([table, "-o", tmp_path / "no" / "r.html"], 1, "cannot write"),
    ):
        assert call("report", *arguments) == code
        assert_one_line(capsys, says)
    assert not path.exists()
    assert kept.read_text() == "<p>mine"
    with pytest.raises(UsageError, match="a table at least"):
        write_report([], [result], path)
    with pytest.raises(NotATableError):
        write_report([garbage], [], path)
    with pytest.raises(ResultError):
        write_report([table], [garbage], path)


def test_without_matplotlib_it_says_what_to_type(
    whole: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'lutra\[plots\]'"):
        write_report([whole[0]], [], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_validate_and_search_draw_theirs(table_path: Path, tmp_path: Path, capsys: Capture) -> None:
    lutra.calibrate(table_path, networks=4)
    fresh, found = tmp_path / "fresh.svg", tmp_path / "found.png"
    assert call("validate", table_path, "--networks", 2, "--rounds", 2, "--plot", fresh) == 0
    assert ">predicted, ms</text>" in fresh.read_text()
    search = ["search", table_path, "--max-latency", "20ms", "--algorithm", "random"]
    assert call(*search, "--plot", found) == 0
    assert found.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert call("search", table_path, "--pareto", "--plot", tmp_path / "x.svg") == 2
    assert_one_line(capsys, "a front's picture is --front")
    assert call(*search, "--plot", tmp_path / "x.pdf") == 2
    assert_one_line(capsys, "a picture is written as .svg or .png")


def test_a_difference_of_two_tables(tmp_path: Path) -> None:
    columns = ["key", "kind", "a_ms", "b_ms", "percent", "verdict"]
    rows = [("a $1$", "conv", 1.0, 1.5, 50.0, "slower"), ("b", "conv", 2.0, 2.0, 0.0, "same")]
    drawing = difference(pd.DataFrame(rows, columns=columns))
    svg = inline_svg(drawing, "difference")
    assert "conv a $1$\n1 ms, then 1.5 ms: +50.0 %; slower" in svg
    write_picture(drawing, tmp_path / "difference.png")
    with pytest.raises(NothingToDraw, match="no workload in common"):
        difference(pd.DataFrame([], columns=columns))


def test_tables_of_before(tmp_path: Path) -> None:
    for name in ("fp32_very_busy.lut", "big_models_quiet.lut"):
        table = tmp_path / name
        table.write_bytes((shared_data("epyc_tables") / name).read_bytes())
        page = report([table], [], tmp_path / f"{name}.html")
        assert page.figures
