"""What is exported says the same: to OFA's estimator, and to an import."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lutra.cli.main import run
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import NotATableError, TableError, UsageError
from lutra.interchange.export_table import export_table
from lutra.interchange.import_table import import_table
from lutra.interchange.ofa_export import _number
from lutra.interchange.ofa_file import read_ofa_file
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.networks.calibration import calibrate
from lutra.profiler.profile import profile
from lutra.tables import LatencyTable
from tests.conftest import SPACE
from tests.interchange.estimator import OfaEstimator


@pytest.fixture(scope="module")
def calibrated_once(profiled_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copy(profiled_once, tmp_path_factory.mktemp("calibrated") / "fake.lut"))
    with FakeDevice(FakeScript()) as device:
        calibrate(path, device=device, networks=6)
    return path


def assert_estimated_alike(estimator: OfaEstimator, predictor: EfficiencyPredictor) -> None:
    rows = predictor.space.sample(20, np.random.default_rng(1), [224])
    theirs = [estimator.latency_ms(predictor.space.decode(row)) for row in rows]
    assert predictor.predict(rows) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_the_authors_estimator_says_what_we_predict(
    ending: str, calibrated_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"224.{ending}"
    summary = export_table(calibrated_once, file)
    assert (summary.rows, summary.resolutions, summary.with_calibration) == (96, (224,), True)
    estimator = OfaEstimator(SPACE, monkeypatch)
    estimator.read({224: file})
    predictor = EfficiencyPredictor(calibrated_once)
    assert predictor.calibrated
    assert_estimated_alike(estimator, predictor)
    # As do our own predictions by it.
    import_table(file, SPACE, tmp_path / "again.lut")
    assert_estimated_alike(estimator, EfficiencyPredictor(tmp_path / "again.lut"))


def test_pooling_within_the_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ProxylessNAS's estimator has no row for the pooling; ours has a price for it."""
    space = "ofa-proxyless-w1.3"
    table, file = tmp_path / "t.lut", tmp_path / "224.yaml"
    with FakeDevice(FakeScript()) as device:
        profile(device, space, table, networks=0)
    assert export_table(table, file).with_calibration is None
    estimator = OfaEstimator(space, monkeypatch)
    estimator.read({224: file})
    assert_estimated_alike(estimator, EfficiencyPredictor(table))


def test_all_resolutions_in_a_file_of_nsganetv2(calibrated_once: Path, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    export_table(calibrated_once, file, dialect="nsganetv2", plain_sum=True)
    import_table(file, SPACE, tmp_path / "again.lut")
    before = EfficiencyPredictor(calibrated_once, plain_sum=True)
    rows = before.space.sample(20, np.random.default_rng(1), [224])
    after = EfficiencyPredictor(tmp_path / "again.lut")
    assert after.predict(rows) == pytest.approx(before.predict(rows), rel=1e-9)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_there_and_back(ending: str, calibrated_once: Path, tmp_path: Path) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    file = tmp_path / f"t.{ending}"
    assert export_table(calibrated_once, file).with_calibration is False
    summary = import_table(file, SPACE, tmp_path / "again.lut")
    assert (summary.ops, summary.left_out) == (96, {str(file): 0})
    with LatencyTable.open(calibrated_once) as table:
        before = table.op_latencies()
    with LatencyTable.open(tmp_path / "again.lut") as table:
        assert table.imported_latencies() == {(key, 224): ms for key, ms in before.items()}
    # And once more, of a table that was imported.
    export_table(tmp_path / "again.lut", file)
    import_table(file, SPACE, tmp_path / "third.lut")
    with LatencyTable.open(tmp_path / "third.lut") as table:
        assert table.imported_latencies() == {(key, 224): ms for key, ms in before.items()}


def test_an_imported_table_goes_back_as_it_came(tmp_path: Path) -> None:
    from tests.interchange.test_import_table import document, imported

    table = imported(tmp_path, document(216), document())
    with pytest.raises(UsageError, match="holds the resolutions 216, 224, .* name one with"):
        export_table(table, tmp_path / "out.yaml")
    export_table(table, tmp_path / "out.yaml", resolution=216)
    assert (
        read_ofa_file(tmp_path / "out.yaml").entries
        == read_ofa_file(tmp_path / "table0.yaml").entries
    )
    with pytest.raises(UsageError, match="holds no resolution 128, but 216, 224"):
        export_table(table, tmp_path / "out.yaml", resolution=128)
    with pytest.raises(TableError, match="two prices for 'classifier-input"):
        other = document(216) | {"Logits-input:1x1x1280-output:1000": {"mean": 0.5}}
        (tmp_path / "made.lut").unlink()
        export_table(
            imported(tmp_path, other, document()), tmp_path / "n.yaml", dialect="nsganetv2"
        )


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("t.txt", {}, "exported as csv, jsonl, parquet, yaml, json; .*ends with none"),
        ("t.csv", {"format": "xls"}, "not 'xls'"),
        ("t.csv", {"resolution": 224}, "csv holds every row"),
        ("t.yaml", {"dialect": "french"}, "unknown dialect 'french'; known: ofa-mbv3"),
        ("t.yaml", {"space": "ofa-mbv3-w1.2"}, "was not profiled for ofa-mbv3-w1.2"),
    ],
)
def test_what_cannot_be_exported(
    name: str, options: dict[str, str], reason: str, calibrated_once: Path, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, TableError), match=reason):
        export_table(calibrated_once, tmp_path / name, **options)  # type: ignore[arg-type]
    assert not (tmp_path / name).exists()


def test_a_file_of_another_kind_is_not_written_over(calibrated_once: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("my own,numbers\n")
    with pytest.raises(UsageError, match="is a file of another kind"):
        export_table(calibrated_once, tmp_path / "mine.csv")
    for _ in range(2):
        export_table(calibrated_once, tmp_path / "ours.json")


def test_numbers_are_numbers_to_yaml() -> None:
    assert [_number(value) for value in (1e-05, 1.5e-07, 0.25)] == ["1.0e-05", "1.5e-07", "0.25"]


def test_parquet_without_pyarrow(
    calibrated_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'lutra\[parquet\]'"):
        export_table(calibrated_once, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def test_prices_below_zero_are_said(calibrated_once: Path, tmp_path: Path) -> None:
    table = Path(shutil.copy(calibrated_once, tmp_path / "t.lut"))
    with sqlite3.connect(table) as connection:
        connection.execute(
            "UPDATE meta SET value = json_set(value, '$.\"ofa-mbv3-w1.0\".composition.per_unit_ms',"
            " -0.2) WHERE name = 'calibration'"
        )
    with pytest.raises(TableError, match="cannot have that"):
        export_table(table, tmp_path / "t.yaml")


# columns of others


def _rows(calibrated_once: Path) -> list[tuple[str, float]]:
    with LatencyTable.open(calibrated_once) as table:
        return [*table.op_latencies().items()]


def _csv(rows: list[tuple[str, float]], header: str = "key,latency_ms") -> str:
    return header + "\n" + "".join(f"{key},{ms!r}\n" for key, ms in rows)


@pytest.mark.parametrize(("unit", "factor"), [("us", 1e3), ("s", 1e-3)])
def test_units_by_name(unit: str, factor: float, calibrated_once: Path, tmp_path: Path) -> None:
    rows = _rows(calibrated_once)
    file = tmp_path / "t.csv"
    file.write_text(_csv([(key, ms * factor) for key, ms in rows], f"key,latency_{unit}"))
    import_table(file, SPACE, tmp_path / "t.lut")
    with LatencyTable.open(tmp_path / "t.lut") as table:
        found = {key: ms for (key, _), ms in table.imported_latencies().items()}
    assert found == pytest.approx(dict(rows))


Edit = Callable[[str], str]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: "", "holds no rows"),
        (lambda text: "key,latency_ms\n", "holds no rows"),
        (lambda text: "\n".join(text.split("\n")[:2]), "lacks 95 of the 96 ops"),
        (lambda text: text.replace("latency_ms", "latency"), "a unit is not guessed at; it has"),
        (
            lambda text: text.replace("latency_ms", "latency_ms,latency_us"),
            "2 columns, the first 3",
        ),
        (lambda text: text.replace("\n", ",1\n").replace("ms,1", "ms,latency_s", 1), "one latency"),
        (lambda text: text.replace("key,", "latency_ms,", 1), "two columns 'latency_ms'"),
        (lambda text: text.replace(",", ";"), "apart by semicolons; write commas"),
        (lambda text: text + "linear/1x1x1280-1x1x1000,9.5\n", "stands in line .* too"),
        (lambda text: text + "x,fast\n", "line 98: latency_ms must be a number, not 'fast'"),
        (lambda text: text + "x,nan\n", "must be a number, not 'nan'"),
        (lambda text: text + "x,1e999\n", "cannot be that large"),
        (lambda text: text + "x,-1\ny,0\nz,0\n", r"is -1: .* \(nor what 2 other rows say\)"),
        (lambda text: text + ",1\n", "'key' must be text"),
        (lambda text: text + '"x,1\n', "is no CSV"),
        (lambda text: text.replace("conv/", "\x1b[2Jconv/"), "lacks"),
    ],
)
def test_broken_columns(edit: Edit, reason: str, calibrated_once: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(edit(_csv(_rows(calibrated_once))))
    with pytest.raises(NotATableError, match=reason) as caught:
        import_table(file, SPACE, tmp_path / "t.lut")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t.lut").exists()


def test_a_row_of_no_network_is_counted(calibrated_once: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(_csv(_rows(calibrated_once)) + "total,12.5\nof \x1b[2J mine,1\n")
    assert import_table(file, SPACE, tmp_path / "t.lut").left_out == {str(file): 2}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            '{"key": "x", "latency_ms": 1, "latency_ms": 2}',
            "no JSON: a name stands twice",
        ),
        ('{"key": "x", "latency_ms": "1"}', "must be a number, not '1'"),
        ('{"key": "x", "latency_ms": true}', "must be a number"),
        ('{"key": "x", "latency_ms": NaN}', "cannot be that large"),
        ('{"key": "x", "latency_ms": %s}' % ("9" * 400), "latency_ms"),
        ('{"key": ["x"], "latency_ms": 1}', "'key' must be text"),
        ('{"key": "x", "latency_ms": 1, "resolution": 2.5}', "whole number"),
        ("[" * 100_000, "line 1 is no JSON"),
        ("[1]", "is no JSON object"),
    ],
)
def test_broken_lines(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(NotATableError, match=reason):
        import_table(file, SPACE, tmp_path / "t.lut")


def test_what_is_no_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(NotATableError, match="is no Parquet file"):
        import_table(tmp_path / "t.parquet", SPACE, tmp_path / "t.lut")


def test_an_import_says_what_is_not_known_and_lints(
    calibrated_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _rows(calibrated_once)
    place = next(index for index, (key, _) in enumerate(rows) if key.startswith("mbconv"))
    rows[place] = (rows[place][0], rows[place][1] / 1e3)
    file, table = tmp_path / "t.csv", tmp_path / "t.lut"
    file.write_text(_csv(rows))
    arguments = ["table", "import", str(file), "--space", SPACE, "-o", str(table)]
    assert run([*arguments, "--device-name", "a board"]) == 0
    said = capsys.readouterr().err
    assert "not known: runtime, precision, threads, batch" in said
    assert "error: outlier: rows that are up to" in said
    assert run(["table", "export", str(table), "-o", str(tmp_path / "back.csv")]) == 0
