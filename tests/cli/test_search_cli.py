"""`lutra search` with several limits and with fronts, from the outside."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from lutra.cli.main import run
from tests.cli.test_cli import Capture, assert_one_line, call, call_json

pytestmark = pytest.mark.usefixtures("hollow")

QUICK = ["--algorithm", "random"]


@pytest.fixture
def board(table_path: Path) -> Path:
    """Another table of the same numbers."""
    path = table_path.with_name("board.lut")
    path.write_bytes(table_path.read_bytes())
    return path


def test_limits_of_several_tables_and_kinds(table_path: Path, board: Path, capsys: Capture) -> None:
    found = call_json(
        capsys, "search", table_path, "--max-latency", "25ms", "--max-latency", f"{board}=20ms",
        "--max-params", "5.2M", "--max-memory", "5MiB", *QUICK,
    )  # fmt: skip
    assert found["limits"] == {"latency_ms": 25.0, "params": 5.2e6, "memory_bytes": 5 * 2.0**20}
    assert [other["limit_ms"] for other in found["other_tables"]] == [20.0]
    assert found["elsewhere"][str(board)]["latency_ms"] == found["predicted_ms"] <= 20.0
    assert found["params"] <= 5.2e6
    assert found["memory_bytes"] <= 5 * 2**20


def test_the_searched_table_may_be_named_too(table_path: Path, capsys: Capture) -> None:
    named, plain = (
        call_json(capsys, "search", table_path, "--max-latency", limit, *QUICK)
        for limit in (f"{table_path}=20ms", "20ms")
    )
    assert named["limits"] == plain["limits"] == {"latency_ms": 20.0}
    assert named["other_tables"] == []


def test_a_front_is_shown_and_written(table_path: Path, tmp_path: Path, capsys: Capture) -> None:
    result, lines, points = (tmp_path / name for name in ("result.json", "f.csv", "f.json"))
    capsys.readouterr()
    assert call("search", table_path, "--pareto", "-o", result, "--front", lines,
                "--front", points) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert 3 < len(captured.out.splitlines()) <= 26
    assert "of the front's" in captured.err
    document = json.loads(result.read_text())
    assert document["objectives"] == ["accuracy", "latency"]
    with lines.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(document["candidates"])
    assert len(json.loads(points.read_text())["front"]) == len(document["candidates"])


def test_tables_may_be_objectives(table_path: Path, board: Path, capsys: Capture) -> None:
    found = call_json(
        capsys, "search", table_path, "--objectives", f"accuracy,macs,{board}", "--max-latency",
        "18ms",
    )  # fmt: skip
    assert found["objectives"] == ["accuracy", "macs", str(board)]
    assert all(candidate["predicted_ms"] <= 18.0 for candidate in found["candidates"])


def test_how_near_a_prediction_is_to_its_budget_is_shown(
    table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Four digits of both are the same: 20 ms and 20 ms."""
    capsys.readouterr()
    result = tmp_path / "result.json"
    assert call("search", table_path, "--max-latency", "20ms", "-o", result) == 0
    heading, first, *_ = capsys.readouterr().out.splitlines()
    assert "below budget %" in heading
    predicted_ms = json.loads(result.read_text())["predicted_ms"]
    assert f"{100.0 * (1.0 - predicted_ms / 20.0):.4g}" in first.split()


def test_networks_may_be_of_several_precisions(
    precisions: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    result = tmp_path / "result.json"
    asked = [
        *("search", precisions["fp32"], "--or", precisions["int8"], "--max-latency", "2ms"),
        *("--accuracy-loss", "int8=0.01", "-o", result),
    ]
    capsys.readouterr()
    assert call(*asked) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.startswith("precision  accuracy %")
    document = json.loads(result.read_text())
    assert [line.split()[0] for line in lines] == [c["precision"] for c in document["candidates"]]
    assert document["precision"] == "int8"
    assert document["accuracy_loss"] == {"fp32": 0.0, "int8": 0.01}
    rows = document["basis"]["rows"]
    assert all(row["visits"] >= 6 and row["half_width_percent"] > 0 for row in rows)
    assert len(rows) == 3
    assert call("verify", result, "--device", "fake", "--count", "2") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("int8")


def test_where_the_interval_comes_from_is_shown(
    precisions: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    result = tmp_path / "result.json"
    assert call("search", precisions["fp32"], "--max-latency", "2ms", "--robust", "0.02",
                "-o", result) == 0  # fmt: skip
    assert "within 0.02 points of the most accurate" in capsys.readouterr().err
    assert call("predict", precisions["fp32"], "--arch", result) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].endswith("alone within %  visits  interval %")
    assert "(not of rows)" in captured.out
    assert "its rows " in captured.err
    found = call_json(capsys, "predict", precisions["fp32"], "--arch", result)
    shares = [row["share"] for row in found["basis"]["rows"]]
    assert sum(shares) + found["basis"]["rest_share"] == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)


REFUSED: list[tuple[list[str], int, str]] = [
    (["--max-latency", "board.lut=20"], 2, "'20' is not a latency"),
    (["--max-latency", "2ms", "--max-latency", "3ms"], 2, "--max-latency OTHER.lut=3ms"),
    (["--max-latency", "no.lut=3ms"], 1, "no.lut"),
    (["--max-latency", "BOARD=3ms", "--max-latency", "BOARD=4ms"], 2, "has a limit already"),
    (["--max-memory", "20 apples"], 2, "is no size of memory"),
    (["--max-memory", "1k"], 1, "with the least memory needs 3.21126M bytes"),
    (["--max-params", "5 M M"], 2, "is not a count"),
    (["--max-latency", "9ms", "--accuracy-loss", "int8"], 2, "write PRECISION=POINTS"),
    (["--max-latency", "9ms", "--accuracy-loss", "int8=-1"], 2, "int8 cannot cost -1 points"),
    (
        ["--max-latency", "9ms", "--accuracy-loss", "int8=1"],
        2,
        "is given for int8",
    ),
    (["--max-latency", "9ms", "--or", "BOARD"], 2, "is of fp32, as"),
    (["--pareto", "--robust", "0.02"], 2, "leave out --pareto, --evaluate and --verify"),
    (["--pareto", "--algorithm", "evolution"], 2, "leave out --algorithm"),
    (["--objectives", "accuracy,speed"], 2, "unknown objective 'speed'"),
    (["--pareto", "--front", "front.pdf"], 2, "written as .csv, .json, .svg, .png"),
    (["--front", "no/such/front.csv"], 2, "there is no folder no/such"),
    (["--front", "TABLE.csv"], 2, "is a latency table"),
    (
        ["--pareto", "--evaluate", "3", "--checkpoint", "x.pt", "--data", "."],
        2,
        "leave out --pareto",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "says"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_cannot_be_is_one_line(
    arguments: list[str], code: int, says: str, table_path: Path, board: Path, capsys: Capture
) -> None:
    wrong = board.with_name("table.csv")
    wrong.write_bytes(board.read_bytes())
    given = [
        word.replace("BOARD", str(board)).replace("TABLE.csv", str(wrong)) for word in arguments
    ]
    assert run(["search", str(table_path), *given]) == code
    assert_one_line(capsys, says)
    assert wrong.read_bytes() == board.read_bytes()
