"""Each fault of published tables is found when it is put into a sound one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lutra.cli.main import run
from lutra.inspection.finding import Finding
from lutra.inspection.lint import lint_table
from lutra.interchange.import_table import import_table
from lutra.ops import OpConfig
from lutra.spaces import get_space
from lutra.tables import Imported, LatencyTable, Target
from lutra.tables.documents import CALIBRATION, store_document
from lutra.tables.profiled import note_profiled
from tests.shared_data import shared_data

SPACE = "ofa-mbv3-w1.0"
Values = dict[tuple[OpConfig, int], float]


@cache
def _ops(resolution: int) -> tuple[OpConfig, ...]:
    return tuple(get_space(SPACE).ops_at([resolution]))


def sound(seed: int = 0, resolutions: tuple[int, ...] = (160, 192, 224)) -> Values:
    """Latencies as a phone has them: MACs, bytes, a cliff at 7x7 and 3 % of noise."""
    random = np.random.default_rng(seed)
    return {
        (op, resolution): float(
            (0.01 + op.macs / 1e7 + op.activation_bytes / 1e8)
            * (12.0 if op.attributes().get("k") == 7 else 1.0)
            * np.exp(random.normal(0.0, 0.03))
        )
        for resolution in resolutions
        for op in _ops(resolution)
    }


def table_of(values: Values, path: Path, device: str = "a phone", runs: int | None = None) -> Path:
    path.unlink(missing_ok=True)
    with LatencyTable.create(path, Target.of_import(device)) as table:
        table.record_imports(
            (op.key, Imported(resolution, ms, "row", "file", "0", runs))
            for (op, resolution), ms in values.items()
        )
        note_profiled(table, None, SPACE, sorted({resolution for _, resolution in values}))
    return path


def errors(findings: tuple[Finding, ...]) -> list[str]:
    return [each.rule for each in findings if each.severity == "error"]


def lint(values: Values, folder: Path) -> tuple[Finding, ...]:
    return lint_table(table_of(values, folder / "t.lut"))


def scaled(values: Values, share: float, factor: float, seed: int = 1) -> Values:
    chosen = np.random.default_rng(seed).random(len(values)) < share
    return {
        place: ms * factor if is_chosen else ms
        for (place, ms), is_chosen in zip(values.items(), chosen, strict=True)
    }


def without_cliff(values: Values) -> Values:
    return {place: ms for place, ms in values.items() if place[0].attributes().get("k") != 7}


def enqueued(values: Values) -> Values:
    return {
        (op, resolution): 0.02 * len(op.graph.nodes) * (1 + 0.02 * np.sin(place))
        for place, (op, resolution) in enumerate(values)
    }


def interpolated(values: Values) -> Values:
    """The middle resolution lies between the two others where the ops are alike."""

    def sort(op: OpConfig) -> str:
        attributes = op.attributes().items()
        return f"{op.kind} {op.input_shape.channels} {op.output_shape.channels} {[*attributes]}"

    series = {(sort(op), resolution): ms for (op, resolution), ms in values.items()}
    return {
        (op, r): (series[sort(op), 160] + series[sort(op), 224]) / 2 if r == 192 else ms
        for (op, r), ms in values.items()
    }


def repeated(values: Values) -> Values:
    places = [place for place in values if place[0].kind == "mbconv"][::20]
    return values | dict.fromkeys(places, 1.2345678)


FAULTS: dict[str, Callable[[Values], Values]] = {
    "unit": lambda values: {place: ms / 1e3 for place, ms in values.items()},
    "zero": lambda values: scaled(values, 0.1, 0.0),
    "outlier": lambda values: scaled(values, 0.02, 1e-3),
    "batch": lambda values: scaled(without_cliff(values), 0.4, 8.0),
    "enqueueing": enqueued,
    "repeated": repeated,
    "interpolated": interpolated,
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_is_found(rule: str, tmp_path: Path) -> None:
    findings = lint(FAULTS[rule](sound()), tmp_path)
    assert rule in errors(findings), findings
    (found, *_) = [each for each in findings if each.rule == rule]
    assert found.count >= len(found.keys) == min(found.count, 3)
    assert "\n" not in found.message


@settings(max_examples=5)
@given(st.integers(0, 1 << 30))
def test_sound_tables_have_no_error(tmp_path: Path, seed: int) -> None:
    assert errors(lint(sound(seed, (160, 192)), tmp_path)) == []


@settings(max_examples=5)
@given(st.integers(0, 1 << 30), st.sampled_from([2, 4, 16]), st.floats(0.1, 0.5))
@example(273346, 2, 0.375)
def test_batches_that_are_mixed_up(tmp_path: Path, seed: int, size: int, share: float) -> None:
    values = without_cliff(sound(seed))
    found = lint(scaled(values, share, size, seed), tmp_path)
    assert "batch" in errors(found), found


def test_numbers_of_another_unit_are_the_rows_that_are_named(tmp_path: Path) -> None:
    values = sound()
    wrong = next(place for place in values if place[0].kind == "mbconv")
    values[wrong] /= 1e3
    (found,) = lint(values, tmp_path)
    assert (found.rule, found.keys, found.count) == (
        "outlier",
        (f"{wrong[0].key} at {wrong[1]}",),
        1,
    )


def test_rows_of_another_device(tmp_path: Path) -> None:
    phone, board = sound(1), sound(2)
    places = [*phone][:6]
    board |= {place: phone[place] for place in places}
    theirs = table_of(phone, tmp_path / "phone.lut")
    ours = table_of(board, tmp_path / "board.lut", "a board")
    (found,) = lint_table(ours, theirs)
    assert (found.rule, found.severity, found.count) == ("copied", "error", 6)
    assert lint_table(ours) == ()
    double = {place: 2.5 * ms for place, ms in phone.items()}
    (found,) = lint_table(table_of(double, tmp_path / "double.lut", "a board"), theirs)
    assert "every row is 2.5 times" in found.message


def test_few_runs_and_coarse_numbers_are_worth_a_look(tmp_path: Path) -> None:
    (thin,) = lint_table(table_of(sound(), tmp_path / "t.lut", runs=2))
    assert (thin.rule, thin.severity, thin.count) == ("thin", "warning", 3 * 96)
    coarse = {place: max(round(ms, 0), 1.0) for place, ms in sound().items()}
    assert ("repeated", "warning") in {
        (each.rule, each.severity) for each in lint(coarse, tmp_path)
    }


def test_a_table_of_ours(table_path: Path) -> None:
    assert errors(lint_table(table_path)) == []
    with LatencyTable.open(table_path, write=True) as table:
        store_document(table, CALIBRATION, SPACE, {})
        document = table.meta(CALIBRATION)
        document[SPACE]["ops_digest"] = "of before"
        table.put_meta(CALIBRATION, document)
    (stale,) = [each for each in lint_table(table_path) if each.rule == "stale"]
    assert f"after the calibration of {SPACE}" in stale.message


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = table_of(sound(), tmp_path / "good.lut")
    bad = table_of(FAULTS["zero"](sound()), tmp_path / "bad.lut")
    assert run(["table", "lint", str(good)]) == 0
    assert "good.lut: nothing found" in capsys.readouterr().err
    assert run(["table", "lint", str(good), str(bad)]) == 1
    assert ": error: zero: rows of 0 ms" in capsys.readouterr().out
    assert run(["table", "lint", "--json", str(good), str(bad)]) == 1
    documents = json.loads(capsys.readouterr().out)
    assert [len(document["findings"]) for document in documents] == [0, 1]


def test_published_tables_and_ours(tmp_path: Path) -> None:
    """None of the sound ones is accused: five of ours, the Note10's, the i7's."""
    for path in sorted(shared_data("epyc_tables").glob("*.lut")):
        assert errors(lint_table(path)) == [], path
    import_table(
        shared_data("ofa_i7_8700k_table") / "i7-8700K_lut.yaml", SPACE, tmp_path / "i7.lut"
    )
    assert lint_table(tmp_path / "i7.lut") == ()
