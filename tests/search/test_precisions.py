"""Networks of several precisions: the best of each precision's table, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import (
    InfeasibleError,
    LutraError,
    ResultError,
    TableError,
    TargetMismatchError,
    UsageError,
)
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.candidate import surest_first
from lutra.search.find import find_networks
from lutra.search.fronts.dominance import nondominated
from lutra.search.fronts.find import find_front
from lutra.search.measuring.closed_loop import find_within_budget
from lutra.search.measuring.verification import verify
from lutra.search.result import SearchResult, read_found
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from lutra.tables.profiled import note_profiled
from tests.conftest import SMALL_SPACE as SPACE
from tests.search.additive import model

pytestmark = pytest.mark.usefixtures("hollow")

LOSS = {"int8": 0.5}
ADDITIVE = model(get_space(SPACE), (28,))


def device() -> FakeDevice:
    return FakeDevice(FakeScript(noise=0.02))


@pytest.fixture
def budget_ms(precisions: dict[str, Path]) -> float:
    """Which some networks keep at fp32 and more at int8."""
    latency = EfficiencyPredictor(precisions["fp32"]).latency
    return 0.6 * latency.cheapest([28])[0] + 0.4 * latency.dearest([28])[0]


def find(table: Path, budget_ms: float, **asked: Any) -> SearchResult:
    return find_networks(table, max_latency_ms=budget_ms, accuracy=ADDITIVE, **asked)


def both(precisions: Mapping[str, Path], budget_ms: float, **asked: Any) -> SearchResult:
    return find(
        precisions["fp32"],
        budget_ms,
        alternatives=[precisions["int8"]],
        **{"accuracy_loss": LOSS, **asked},
    )


@pytest.mark.parametrize("loss", [0.0, 0.5, 3.0])
def test_the_best_of_all_is_the_best_of_each(
    precisions: dict[str, Path], budget_ms: float, loss: float
) -> None:
    alone = {name: find(path, budget_ms) for name, path in precisions.items()}
    result = both(precisions, budget_ms, accuracy_loss={"int8": loss})
    expected = sorted(
        (
            each.accuracy - (loss if name == "int8" else 0.0)
            for name, found in alone.items()
            for each in found.candidates
        ),
        reverse=True,
    )
    assert [each.accuracy for each in result.candidates] == expected[:10]
    for each in result.candidates:
        assert each.precision is not None
        there = EfficiencyPredictor(precisions[each.precision])
        assert each.predicted_ms == there.predict_one(each.architecture).latency_ms <= budget_ms
    assert any(note.startswith("proved:") for note in result.notes)
    assert result.evaluations == sum(each.evaluations for each in alone.values())


def test_the_front_is_that_of_both(precisions: dict[str, Path]) -> None:
    front = find_front(
        precisions["fp32"],
        accuracy=ADDITIVE,
        alternatives=[precisions["int8"]],
        accuracy_loss={"int8": 2.0},
        hyperparameters={"generations": 8, "population": 40, "keep": 30},
    )
    values = [(-each.accuracy, each.predicted_ms) for each in front.candidates]
    assert list(nondominated(np.array(values))) == list(range(len(values)))
    assert {each.precision for each in front.candidates} == {"fp32", "int8"}
    assert len(values) <= 30


def test_it_is_written_read_verified_and_exported_by_its_precision(
    precisions: dict[str, Path], budget_ms: float, tmp_path: Path
) -> None:
    result = both(precisions, budget_ms, accuracy_loss={"int8": 0.0})
    mixed = (result.best, *both(precisions, budget_ms, accuracy_loss={"int8": 50.0}).candidates[:1])
    result = replace(result, candidates=mixed)
    assert [each.precision for each in mixed] == ["int8", "fp32"]
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result
    assert read_found(tmp_path / "result.json")[1].precision == "int8"
    assert result.to_frame().precision.tolist() == ["int8", "fp32"]
    verified = verify(result, device=device(), count=2)
    for each in verified.candidates:
        assert each.verified is not None
        assert each.verified.measured_ms == pytest.approx(each.predicted_ms, rel=0.02)
    document = result.to_json()
    document["candidates"][1]["precision"] = "fp16"
    with pytest.raises(ResultError, match="of a precision that no table is of"):
        SearchResult.from_json(document, "result.json")


def test_the_budget_is_kept_at_either(precisions: dict[str, Path], budget_ms: float) -> None:
    """At int8, which is fast, more accurate ones keep it: fp32 is searched second, in vain."""
    seen: list[SearchResult] = []
    found = find_within_budget(
        precisions["int8"],
        budget_ms,
        accuracy=ADDITIVE,
        alternatives=[precisions["fp32"]],
        accuracy_loss={"int8": 0.0},
        device=device(),
        candidates=2,
        iterations=1,
        on_result=seen.append,
    )
    loop = found.closed_loop
    assert loop is not None
    assert loop.kept > 0
    assert {each.precision for each in found.candidates} == {"int8"}
    assert any(note.startswith("fp32: nothing was measured: none is") for note in found.notes)
    assert len(seen) == 2  # what was measured, and again with what may win measured twice


def test_one_that_cannot_keep_the_limit_is_left_out(precisions: dict[str, Path]) -> None:
    fastest = {n: EfficiencyPredictor(p).latency.cheapest([28])[0] for n, p in precisions.items()}
    result = both(precisions, math.sqrt(fastest["fp32"] * fastest["int8"]))
    assert {each.precision for each in result.candidates} == {"int8"}
    assert result.target.precision == "int8"
    assert any(note.startswith("fp32: ") and "fastest" in note for note in result.notes)
    with pytest.raises(InfeasibleError, match=r"^fp32: .*; int8: "):
        both(precisions, 0.5 * fastest["int8"])


def test_a_loss_is_measured_by_two_files(
    precisions: dict[str, Path], budget_ms: float, tmp_path: Path
) -> None:
    files = tmp_path / "fp32.json", tmp_path / "int8.json"
    of = {"data": "images", "split": "test", "images": 1000}
    for path, top1 in zip(files, (90.0, 89.25), strict=True):
        path.write_text(json.dumps({**of, "top1": top1}))
    found = both(precisions, budget_ms, accuracy_loss={"int8": files})
    assert found.accuracy_loss == {"fp32": 0.0, "int8": 0.75}
    files[1].write_text(json.dumps({**of, "top1": 91.0}))
    assert both(precisions, budget_ms, accuracy_loss={"int8": files}).accuracy_loss["int8"] == 0.0
    files[1].write_text(json.dumps({**of, "top1": 89.0, "images": 500}))
    with pytest.raises(ResultError, match="of other images than .* its 'images' differs"):
        both(precisions, budget_ms, accuracy_loss={"int8": files})


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ({}, r"--accuracy-loss int8=POINTS, or, .* int8=fp32.json,int8.json"),
        ({"int8": -0.5}, "int8 cannot cost -0.5 points"),
        ({"int8": math.nan}, "int8 cannot cost nan points"),
        ({"int8": 0.5, "fp16": 0.1}, "is given for fp16, and searched is fp32, int8"),
        ({"int8": 99.9}, "leaves less than nothing"),
    ],
)
def test_a_loss_that_cannot_be(
    losses: dict[str, float], says: str, precisions: dict[str, Path], budget_ms: float
) -> None:
    with pytest.raises(UsageError, match=says):
        both(precisions, budget_ms, accuracy_loss=losses)


def made(path: Path, like: Path, space: str = SPACE, **changed: Any) -> Path:
    """An empty table of nearly another one's target."""
    with LatencyTable.open(like) as table:
        target = table.target
    with LatencyTable.create(path, replace(target, **changed)) as table:
        note_profiled(table, "fake", space, [28 if space == SPACE else 224])
    return path


def test_tables_that_do_not_go_together(precisions: dict[str, Path], tmp_path: Path) -> None:
    like = precisions["int8"]
    refused: list[tuple[Path, type[LutraError], str]] = [
        (made(tmp_path / "a.lut", precisions["fp32"]), UsageError, "is of fp32, as"),
        (made(tmp_path / "b.lut", like, "ofa-resnet50d"), TableError, "was not profiled for"),
        (made(tmp_path / "c.lut", like, threads=4), TargetMismatchError, "threads is '4'"),
        (
            made(tmp_path / "d.lut", like),
            TableError,
            r"d\.lut is not calibrated: .*run",
        ),
    ]
    for path, error, says in refused:
        with pytest.raises(error, match=says):
            both({**precisions, "int8": path}, 5.0)


def test_what_int8_costs_is_said_to_be_unknown_for_it_alone(
    precisions: dict[str, Path], budget_ms: float
) -> None:
    plain = find(precisions["int8"], budget_ms)
    assert any("what int8 costs is not taken off" in note for note in plain.notes)
    told = find(precisions["int8"], budget_ms, accuracy_loss=LOSS)
    assert told.best.accuracy == plain.best.accuracy - 0.5
    assert not any("not taken off" in note for note in told.notes)


# the surest of near-equal candidates


def test_the_surest_comes_first_and_the_most_accurate_stays(
    precisions: dict[str, Path], budget_ms: float
) -> None:
    plain = find(precisions["fp32"], budget_ms)
    result = find(precisions["fp32"], budget_ms, robust=0.3)
    assert plain.best in result.candidates
    assert len(result.candidates) == len(plain.candidates)
    first, *others = result.candidates
    assert first != plain.best
    assert first.accuracy >= plain.best.accuracy - 0.3
    assert all(first.unsure_percent <= each.unsure_percent for each in others)
    place = 1 + result.candidates.index(plain.best)
    assert any(f"the most accurate, candidate {place}, has" in note for note in result.notes)
    assert result.hyperparameters["robust"] == 0.3
    with pytest.raises(UsageError, match="robust within -1 points"):
        find(precisions["fp32"], budget_ms, robust=-1.0)


def test_rows_that_are_unsure_count(precisions: dict[str, Path], budget_ms: float) -> None:
    """Two candidates alike but for the rows: the one with narrow rows is preferred."""
    best = find(precisions["fp32"], budget_ms).best
    assert best.basis is not None
    wide = replace(best, basis=replace(best.basis, rows_percent=5.0))
    assert surest_first([wide, best], 0.02) == (best, wide)
    worse = replace(best, accuracy=best.accuracy - 0.1)
    assert surest_first([wide, worse], 0.02) == (wide, worse)
