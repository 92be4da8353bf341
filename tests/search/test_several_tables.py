"""Limits on several tables, parameters and memory at once, and what results say of them."""

from __future__ import annotations

import json
import math
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import InfeasibleError, MissingOpError, ResultError, TableError, UsageError
from lutra.predictors.efficiency.composition import Composition
from lutra.predictors.efficiency.memory import memory_cost
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.profile import profile
from lutra.search.find import find_networks
from lutra.search.question import Maxima, Question, ask
from lutra.search.result import SearchResult
from lutra.tables import LatencyTable
from lutra.tables.documents import CALIBRATION, store_document
from lutra.tables.profiled import note_profiled
from tests.conftest import SPACE

STORED = Path(__file__).parent / "results" / "version-1.json"


def by_root_of_size(model: Path) -> float:
    """Milliseconds of a device on which small ops are dear."""
    return 2e-4 * math.sqrt(model.stat().st_size)


@pytest.fixture(scope="module")
def board_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "board.lut"
    profile(FakeDevice(FakeScript(by_root_of_size)), SPACE, path, networks=0)
    return path


@pytest.fixture
def board(board_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(board_once, tmp_path / "board.lut"))


def between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)


@pytest.fixture
def maxima(table_path: Path, board: Path) -> Maxima:
    """Limits that each bind."""
    question = ask(table_path, Maxima(other_tables={board: None}))
    other = question.others[0].predictor
    at = (224,)
    return Maxima(
        latency_ms=between(
            question.predictor.latency.cheapest(at)[0],
            question.predictor.latency.dearest(at)[0],
            0.6,
        ),
        params=between(
            question.predictor.params.cheapest(at)[0], question.predictor.params.dearest(at)[0], 0.5
        ),
        memory_bytes=between(question.memory.cheapest(at)[0], question.memory.most(at), 0.5),
        other_tables={
            board: between(other.latency.cheapest(at)[0], other.latency.dearest(at)[0], 0.4)
        },
    )


def find(table: Path, maxima: Maxima) -> SearchResult:
    return find_networks(
        table,
        max_latency_ms=maxima.latency_ms,
        max_params=maxima.params,
        max_memory=maxima.memory_bytes,
        other_tables=maxima.other_tables,
        algorithm="random",
        hyperparameters={"samples": 3000},
    )


def test_all_limits_hold_at_once_and_each_table_predicts(
    table_path: Path, board: Path, maxima: Maxima
) -> None:
    result = find(table_path, maxima)
    there, memory = EfficiencyPredictor(board), memory_cost(EfficiencyPredictor(board).space, 4)
    (limit_ms,) = maxima.other_tables.values()
    most = result.limits
    assert len(result.candidates) > 1
    for candidate in result.candidates:
        row = there.space.encode(candidate.architecture)[None, :]
        assert candidate.predicted_ms <= most["latency_ms"]
        assert candidate.params <= most["params"]
        assert candidate.memory_bytes == memory.of(row)[0] <= most["memory_bytes"]
        assert candidate.elsewhere[str(board)].latency_ms == there.latency.of(row)[0]
        assert there.latency.of(row)[0] <= np.float64(limit_ms)
    assert most == maxima.by_name()
    (other,) = result.other_tables
    assert (other.table, other.limit_ms) == (str(board), limit_ms)
    assert other.target == there.target


def test_feasible_is_within_each_limit(table_path: Path, board: Path, maxima: Maxima) -> None:
    """Of random networks, where each of the limits excludes some and admits some."""
    question = ask(table_path, maxima)
    rows = question.space.sample(500, np.random.default_rng(0), [224])
    own, there = question.predictor, EfficiencyPredictor(board)
    (limit_ms,) = maxima.other_tables.values()
    assert limit_ms is not None
    most = maxima.by_name() | {"there": limit_ms}
    within = [
        own.latency.of(rows) <= most["latency_ms"],
        own.params.of(rows) <= most["params"],
        memory_cost(own.space, 4).of(rows) <= most["memory_bytes"],
        there.latency.of(rows) <= most["there"],
    ]
    assert all(0 < kept.sum() < len(rows) for kept in within)
    assert np.array_equal(question.problem.constraints.feasible(rows), np.all(within, axis=0))


def test_it_is_written_and_read(table_path: Path, maxima: Maxima, tmp_path: Path) -> None:
    result = find(table_path, maxima)
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["version"] == 2
    del document["candidates"][1]["elsewhere"]
    with pytest.raises(ResultError, match="what each of 'other_tables' predicts"):
        SearchResult.from_json(document, "result.json")


def test_a_file_of_version_1_is_read_and_written_anew(tmp_path: Path) -> None:
    """Written by lutra before there were others, and verified."""
    result = SearchResult.read(STORED)
    assert result.limits == {"latency_ms": 20.0, "macs": 4e8}
    assert result.best.verified is not None
    assert result.best.memory_bytes is None
    assert (result.other_tables, result.objectives) == ((), ())
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result


def question_of(table: Path, **limits: object) -> Question:
    return ask(table, Maxima(**limits))  # type: ignore[arg-type]


def test_a_table_of_another_space_is_refused(table_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.lut"
    with LatencyTable.open(table_path) as table:
        target = table.target
    with LatencyTable.create(other, target) as table:
        note_profiled(table, "fake", "ofa-resnet50d", [224])
    with pytest.raises(TableError, match=r"other\.lut was not profiled for ofa-mbv3-w1\.0"):
        question_of(table_path, other_tables={other: 5.0})


def test_the_searched_table_is_no_other_one(table_path: Path) -> None:
    with pytest.raises(UsageError, match="is the table that is searched"):
        question_of(table_path, other_tables={str(table_path): 5.0})


def test_a_table_of_other_resolutions_names_the_command(table_path: Path, board: Path) -> None:
    with LatencyTable.open(board, write=True) as table:
        table.put_meta("profiled", {"device": "fake", "spaces": {SPACE: [160]}})
    with pytest.raises(
        TableError, match=re.escape(f"--space {SPACE} --resolutions 224 -o {board}` measures them")
    ):
        question_of(table_path, other_tables={board: 5.0})


def without_ops(path: Path, pattern: str) -> None:
    """Remove the measurements of some ops."""
    with sqlite3.connect(path) as database:
        database.execute(
            "DELETE FROM measurements WHERE subject IN (SELECT id FROM subjects WHERE key LIKE ?)",
            (pattern,),
        )
    database.close()


def test_networks_with_ops_that_a_table_lacks_are_left_out(table_path: Path, board: Path) -> None:
    without_ops(board, "mbconv/%/k=7/%")
    result = find(table_path, Maxima(other_tables={board: 1000.0}))
    note = next(note for note in result.notes if "lacks" in note)
    assert "lacks 30 of the 96 ops that are searched, such as mbconv/" in note
    assert f"`lutra profile fake --space {SPACE} --resolutions 224 -o {board}`" in note
    assert all(7 not in candidate.architecture["ks"] for candidate in result.candidates)


def test_ops_that_every_network_has_must_be_there(table_path: Path, board: Path) -> None:
    without_ops(board, "conv/224x224x3%")
    with pytest.raises(MissingOpError, match="lacks 1 of the 96 ops .* measures them"):
        question_of(table_path, other_tables={board: 1000.0})


def test_a_table_without_a_limit_must_know_all_ops(table_path: Path, board: Path) -> None:
    without_ops(board, "mbconv/%/k=7/%")
    with pytest.raises(MissingOpError, match="lacks 30 of the 96 ops"):
        question_of(table_path, other_tables={board: None})


def test_a_limit_below_the_fastest_says_on_which_table(table_path: Path, board: Path) -> None:
    says = rf"fastest subnet of {SPACE} on .*board\.lut takes .*; the limit on latency on .*board"
    with pytest.raises(InfeasibleError, match=says):
        find(table_path, Maxima(other_tables={board: 0.1}))


def test_a_budget_that_is_refused_by_plain_sums_says_so(table_path: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"below it; latencies of .*fake\.lut are plain sums"):
        find(table_path, Maxima(latency_ms=0.1))
    with LatencyTable.open(table_path, write=True) as table:
        calibration = {"composition": Composition().to_json()}
        store_document(table, CALIBRATION, SPACE, calibration)
    with pytest.raises(InfeasibleError, match="below it$"):
        find(table_path, Maxima(latency_ms=0.1))


def test_the_least_memory_is_named(table_path: Path) -> None:
    least = ask(table_path, Maxima()).memory.cheapest([224])[0]
    with pytest.raises(InfeasibleError, match=rf"least memory needs {least / 1e6:.6g}M bytes"):
        find(table_path, Maxima(memory_bytes=least - 1))
    assert find(table_path, Maxima(memory_bytes=least)).best.memory_bytes == least


def test_limits_that_do_not_bind_are_noted(table_path: Path, board: Path) -> None:
    loose = Maxima(params=1e9, memory_bytes=1e9, other_tables={board: 1e5})
    notes = find(table_path, loose).notes
    for said in ("1000M parameters", "1000M bytes", f"100000 ms on {board}"):
        assert any(f"the limit of {said} does not bind" in note for note in notes)
