"""What an import makes, and what it refuses with nothing written."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lutra
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import (
    LutraError,
    MissingOpError,
    NotATableError,
    TableWriteError,
    TargetMismatchError,
    UsageError,
)
from lutra.interchange.import_table import import_table
from lutra.interchange.ofa_keys import DIALECTS
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.result import SearchResult
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from tests.interchange.estimator import write_table

SPACE = "ofa-mbv3-w1.0"
Document = dict[str, dict[str, Any]]


def document(resolution: int = 224, space: str = SPACE, dialect: int = 0) -> Document:
    """A table of the space with means in proportion to MACs, at the pace of a phone."""
    keys = DIALECTS[dialect].keys(get_space(space), resolution)
    return {
        key: {"count": 500, "mean": round(0.01 + op.macs / 1e7, 6), "std": 0.001}
        for op, key in keys.items()
        if key is not None
    }


def imported(folder: Path, *documents: Document, space: str = SPACE, **names: str) -> Path:
    files = [
        write_table(folder / f"table{number}.yaml", rows) for number, rows in enumerate(documents)
    ]
    lutra.import_table(files, space, folder / "made.lut", **names)
    return folder / "made.lut"


def error_of(folder: Path, *documents: Document, space: str = SPACE) -> str:
    """Why these are refused, as a table's file or as a space's; nothing is left of it."""
    with pytest.raises((NotATableError, UsageError)) as caught:
        imported(folder, *documents, space=space)
    assert not (folder / "made.lut").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_row_says_where_it_is_from(tmp_path: Path) -> None:
    table = imported(tmp_path, document(), device_name="Samsung Note10", runtime_name="TFLite")
    digest = hashlib.sha256((tmp_path / "table0.yaml").read_bytes()).hexdigest()
    with LatencyTable.open(table) as opened:
        assert (opened.target.device, opened.target.runtime) == ("imported", "TFLite")
        assert opened.target.device_model == "Samsung Note10"
        frame = opened.to_frame()
    assert len(frame) == 96
    assert set(frame.sha256) == {digest}
    assert set(frame.file) == {"table0.yaml"}
    assert set(frame.runs) == {500}
    assert set(frame.std_ms) == {0.001}
    assert frame.ci_low_ms.isna().all()
    row = frame[
        frame.key == "conv/224x224x3-112x112x16/k=3/s=2/g=1/act=h_swish/bias=batchnorm/res=0"
    ]
    assert list(row.entry) == ["Conv-input:224x224x3-output:112x112x16"]


def test_pooling_within_the_classifier_is_counted_once(tmp_path: Path) -> None:
    space = "ofa-proxyless-w1.3"
    with LatencyTable.open(
        imported(tmp_path, document(space=space, dialect=1), space=space)
    ) as table:
        latencies = table.imported_latencies()
    (pool,) = [key for key, _ in latencies if key.startswith("pool/")]
    assert latencies[pool, 224] == 0.0
    assert sum(value == 0.0 for value in latencies.values()) == 1


def test_files_of_several_resolutions_are_told_apart(tmp_path: Path) -> None:
    small, large = document(216), document(224)
    common = small.keys() & large.keys()  # the last stage has 7x7 at both
    assert len(common) > 20
    for key in common:
        small[key]["mean"] *= 2
    table = imported(tmp_path, small, large)
    with LatencyTable.open(table) as opened:
        latencies = opened.imported_latencies()
    key = "linear/1x1x1280-1x1x1000"
    assert latencies[key, 216] == pytest.approx(2 * latencies[key, 224])
    predictor = EfficiencyPredictor(table)
    assert predictor.resolutions == (216, 224)
    with pytest.raises(MissingOpError, match="imported for 2 resolutions from 216 to 224"):
        predictor.predict_one(predictor.space.decode(predictor.space.choice_counts * 0))
    with pytest.raises(MissingOpError, match="96 of 96 op .* or import them"):
        predictor.latency.cheapest([128])


def test_the_same_file_twice_is_one(tmp_path: Path) -> None:
    assert LatencyTable.open(imported(tmp_path, document(), document())).to_frame().shape[0] == 96


def test_rows_of_no_network_are_counted(tmp_path: Path) -> None:
    rows = document() | document(space="ofa-mbv3-w1.2")
    path = write_table(tmp_path / "both.yaml", rows)
    summary = import_table([path], SPACE, tmp_path / "made.lut")
    assert (summary.ops, summary.resolutions) == (96, (224,))
    assert summary.left_out == {str(path): len(rows) - 96}


# refusals


def test_contradictions(tmp_path: Path) -> None:
    other = document()
    key = "Logits-input:1x1x1280-output:1000"
    other[key] = {"mean": 7.5}
    message = error_of(tmp_path, document(), other)
    assert "table1.yaml contradicts table0.yaml" in message
    assert f"'{key}' is 7.5 ms here, 0.138 ms there" in message


def test_missing_rows(tmp_path: Path) -> None:
    rows = document()
    key = next(key for key in rows if "kernel:7" in key)
    del rows[key]
    message = error_of(tmp_path, rows)
    assert f"lacks 1 of the 96 ops of {SPACE} at 224, such as '{key}'" in message


@pytest.mark.parametrize(
    ("rows", "space", "reason"),
    [
        (lambda: document(space="ofa-mbv3-w1.2"), SPACE, "it is a table of ofa-mbv3-w1.2"),
        (document, "ofa-proxyless-w1.3", f"no first layer of .*it is a table of {SPACE}"),
        (lambda: {"Conv-of-mine": {"mean": 1.0}}, SPACE, "only such rows as 'Conv-of-mine'$"),
        (dict, SPACE, "it is empty"),
        (document, "ofa-resnet50d", "have no rows for ofa-resnet50d"),
        (document, "ofa-mbv3-w9", "its width must be"),
    ],
)
def test_rows_of_another_space(
    tmp_path: Path, rows: Callable[[], Document], space: str, reason: str
) -> None:
    assert re.search(reason, error_of(tmp_path, rows(), space=space))


@pytest.mark.parametrize(
    ("factor", "words"), [(1e-3, "seconds, multiply them by 1000"), (1e3, "us, multiply them by")]
)
def test_another_unit(tmp_path: Path, factor: float, words: str) -> None:
    rows = {key: {"mean": factor * fields["mean"]} for key, fields in document().items()}
    message = error_of(tmp_path, rows)
    assert "its numbers are not ms" in message
    assert words in message


def test_no_file_is_written_over(tmp_path: Path) -> None:
    table = imported(tmp_path, document())
    before = table.read_bytes()
    with pytest.raises(TableWriteError, match="is there already"):
        imported(tmp_path, document(216))
    assert table.read_bytes() == before
    with pytest.raises(TableWriteError, match="cannot write"):
        import_table([tmp_path / "table0.yaml"], SPACE, tmp_path / "no" / "made.lut")
    with pytest.raises(UsageError, match="at least one file"):
        import_table([], SPACE, tmp_path / "none.lut")
    assert {path.name for path in tmp_path.iterdir()} == {"made.lut", "table0.yaml"}


# what can be done with an imported table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return imported(tmp_path, document())


def test_a_search_says_so_and_its_result_can_be_read_and_exported(
    table: Path, tmp_path: Path
) -> None:
    result = lutra.find_networks(table, max_latency_ms=40, algorithm="random")
    assert result.notes[0].startswith("the table was imported (table0.yaml) and is not calibrated")
    assert result.best.predicted_low_ms is None
    result.write(tmp_path / "result.json")
    assert SearchResult.read(tmp_path / "result.json") == result
    assert lutra.export(tmp_path / "result.json", tmp_path / "m.onnx")["precision"] == "fp32"
    for device in ("fake", None):
        with pytest.raises(TargetMismatchError, match=r"made\.lut was imported"):
            lutra.verify(tmp_path / "result.json", device=device)


def test_nothing_is_measured_into_it(table: Path) -> None:
    with LatencyTable.open(table) as opened:
        before = opened.rows()
    device = FakeDevice(FakeScript())
    with device:
        measuring: list[Any] = [
            lambda: lutra.profile(device, SPACE, table),
            lambda: lutra.calibrate(table, device=device),
            lambda: lutra.validate(table, device=device),
            lambda: lutra.calibrate(table),
        ]
        for measure in measuring:
            with pytest.raises(LutraError, match=r"made\.lut was imported: .* is not known"):
                measure()
    with LatencyTable.open(table) as opened:
        assert opened.rows() == before
        assert opened.runs() == []


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lutra.cli.main import run

    monkeypatch.chdir(tmp_path)
    write_table(Path("224.yaml"), document() | {"Conv-of-mine": {"mean": 1.0}})
    made = ["table", "import", "224.yaml", "--space", SPACE, "-o", "t.lut"]
    assert run([*made, "--device-name", "A phone"]) == 0
    out, err = capsys.readouterr()
    assert out == "t.lut\n"
    assert "96 rows of ofa-mbv3-w1.0 at 224" in err
    assert "224.yaml: rows of no network of ofa-mbv3-w1.0, left out: 1" in err
    assert run(["table", "show", "t.lut"]) == 0
    out, err = capsys.readouterr()
    assert "A phone" in err
    assert out.splitlines()[0].split() == [
        *("key", "resolution", "latency_ms", "runs", "std_ms", "file")
    ]
    assert len(out.splitlines()) == 97
    search = ["search", "t.lut", "--max-latency", "40ms", "--algorithm", "random"]
    assert run([*search, "-o", "r.json"]) == 0
    out, err = capsys.readouterr()
    assert "was imported (224.yaml) and is not calibrated" in err
    assert "lutra calibrate" not in err
    assert "lutra verify" not in err
    assert run(["predict", "t.lut", "--arch", "r.json"]) == 0
    out, err = capsys.readouterr()
    assert "was imported (224.yaml) and is not calibrated" in err
    for command in (
        ["verify", "r.json", "--device", "fake"],
        ["calibrate", "t.lut", "--device", "fake"],
        ["validate", "t.lut"],
        ["search", "t.lut", "--max-latency", "40ms", "--verify"],
        ["profile", "fake", "-o", "t.lut"],
        ["profile", "fake", "--dry-run", "-o", "t.lut"],
    ):
        assert run(command) == 1, command
        assert "t.lut was imported" in capsys.readouterr().err, command
    assert run(made) == 1
    assert "is there already" in capsys.readouterr().err
